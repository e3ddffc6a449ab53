"""Progress as plain lines, for a log or a pipe: ASCII, one line per start-up phase and per step."""

from __future__ import annotations

from mrpo.observe.progress import Progress, change, change_window, clock
from mrpo.record.jsonl import Record
from mrpo.record.metrics import TITLES
from mrpo.record.phase import ALARMS, WARNINGS, Phase
from mrpo.record.run_folder import RunFolder


def line_for(progress: Progress, record: Record, folder: RunFolder) -> str:
    """The line to print after ``record`` was fed to ``progress``; empty for phases within a step."""
    if "phase" not in record:
        return _step(progress, record)
    name, elapsed = record["phase"], record["time"] - (progress.began or record["time"])
    if name == Phase.PLAN:
        rewards = ", ".join(progress.rewards)
        return f"{folder.name}: {progress.total_steps} steps, rewards {rewards}. Run folder: {folder.path}"
    if name == Phase.DONE:
        return f"done: {progress.step} steps in {clock(elapsed)}. Run folder: {folder.path}"
    if name == Phase.FAILED:
        why = record.get("detail") or "no cause was given"
        return f"failed in {progress.where()} after {clock(elapsed)}: {why}\nlogs: {folder.logs}"
    if name == Phase.STOPPED:
        return f"stopped after {clock(elapsed)}: {record.get('detail')}"
    if name == Phase.EXPORT:
        return f"export: {record.get('detail')}"
    if name == Phase.ATTEMPT:
        return f"attempt {record.get('detail')}" if record.get("detail") != "1" else ""
    if name in ALARMS:
        return f"{name}: {record.get('detail')}"
    if name in WARNINGS:
        return f"warning: {record.get('detail')}"
    if progress.training:
        return ""
    detail = " ".join(str(record.get("detail") or "").split())
    return f"[{elapsed:6.1f} s] {name}" + (f": {detail}" if detail else "")


def _step(progress: Progress, record: Record) -> str:
    total = progress.total_steps
    width = len(str(total)) if total else 1
    parts = [f"step {record['step']:>{width}}" + (f"/{total}" if total else "")]
    for reward in progress.rewards:
        metric = f"reward/{reward}/mean"
        value, history = progress.current(metric), progress.history(metric)
        shown, rise = "-" if value is None else f"{value:.3g}", change(history)
        recent = f" ({rise:+z.2f} in {change_window(history)})" if rise is not None and value is not None else ""
        parts.append(f"{reward} {shown}{recent}")
    if (length := progress.current("rollout/response_length/mean")) is not None:
        parts.append(f"{TITLES['rollout/response_length/mean']} {length:.1f}")
    if (seconds := progress.last_step_seconds()) is not None:
        parts.append(f"{TITLES['time/step']} {seconds:.1f} s")
    if (left := progress.time_left(record["time"])) is not None:
        parts.append(f"{clock(left)} left")
    return " | ".join(parts)
