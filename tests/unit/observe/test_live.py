"""What a run shows: plain lines away from a terminal, one panel on it."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console

from mrpo.config.alarms import AlarmsConfig
from mrpo.observe.live import LiveDisplay, watch
from mrpo.observe.panel import draw
from mrpo.observe.report import read_progress, write_report
from mrpo.record.alarms import Alarms
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .runs import REWARDS, metrics_of, new_run, recorded_run

pytestmark = pytest.mark.unit


def _plain(folder: RunFolder) -> list[str]:
    out = io.StringIO()
    with LiveDisplay(folder, Console(file=out)):
        pass
    return out.getvalue().splitlines()


def _drawn(folder: RunFolder, after: float = 1.0, width: int = 100) -> str:
    progress = read_progress(folder)
    now = max([event["time"] for event in folder.events()], default=0.0) + after
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(draw(progress, folder, now, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_output_is_ascii_lines_without_ansi_even_when_colours_are_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = "\n".join(_plain(recorded_run(tmp_path)))
    assert "\x1b" not in text
    assert text.isascii()


def test_plain_output_has_a_line_per_startup_phase_and_per_step(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=12, total=40)
    lines = _plain(folder)
    assert lines[1:4] == ["[   0.0 s] start ray", "[   8.0 s] load model", "[  32.0 s] start vLLM"]
    steps = [line for line in lines if line.startswith("step ")]
    assert len(lines) == 1 + 3 + 12 + 1
    for step, line in enumerate(steps, 1):
        assert line.startswith(f"step {step:>2}/40 | ")
        for reward in ("correct", "format", "short"):
            values = [metrics_of(one)[f"reward/{reward}/mean"] for one in range(1, step + 1)]
            window = min(5, step // 2)
            rise = fmean(values[-window:]) - fmean(values[-2 * window : -window]) if window else 0.0
            shown = f"{reward} {values[-1]:.3g}" + (f" ({rise:+z.2f} in {window})" if window else "")
            assert f" | {shown} | " in line
    assert re.search(r"\| response length \d+\.\d \| step time \d\.\d s \| \d:\d\d left$", steps[-1])
    assert lines[-1].startswith("done: 12 steps in 2:0")


def test_failed_run_tells_its_cause_and_the_path_of_its_logs(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=3, end="failed")
    for text in ("\n".join(_plain(folder)), re.sub(r"[│\s]+", " ", _drawn(folder, width=400))):
        assert "KeyError: 'x'" in text
        assert "logs: " in text
    assert str(folder.logs) in "\n".join(_plain(folder))


def test_a_warning_is_told_in_words_and_is_no_phase_of_the_run(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=3, end="")
    folder.event("update_actor", step=4)
    folder.event(Phase.TRUNCATED, step=3, detail="80% of the step's responses")
    assert _plain(folder)[-1] == "warning: 80% of the step's responses"
    assert "warning: 80% of the step's responses" in _drawn(folder)
    assert "update_actor" in _drawn(folder)


def test_an_alarm_is_told_as_it_is_raised_and_cleared_and_shown_while_it_is(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, end="")
    alarms, told = Alarms(AlarmsConfig()), list[str]()
    for step, share in enumerate([0.8, 0.2, 0.2, 0.2], 13):
        metrics = {"rollout/truncated_share": share}
        for change in alarms.judge(metrics):
            folder.event(change.phase, step=step, detail=change.detail)
        folder.write_metrics(step, metrics | alarms.metrics())
        told.append(" ".join(re.sub("[│\n]", " ", _drawn(folder)).split()))
    said = "alarm: 80% of the responses reached data.max_response_length before their end. Raise it;"
    assert [said in panel for panel in told] == [True, True, True, False]
    assert [line for line in _plain(folder) if line.startswith("alarm")] == [
        f"{said} algorithm.truncated=mask leaves them out of the loss.",
        "alarm cleared: truncated",
    ]
    assert read_progress(folder).where() == "step 17, update_weights"
    page = write_report(folder)[1].read_text(encoding="utf-8")
    detail, remedy = said.removeprefix("alarm: ").split(". ")
    assert re.search(rf"truncated</strong>: \S+ \S+: {detail}<p>{remedy}", page)


def test_each_line_is_printed_once_however_often_it_polls(tmp_path: Path) -> None:
    folder, out = recorded_run(tmp_path, steps=2, end=""), io.StringIO()
    with LiveDisplay(folder, Console(file=out)) as display:
        for _ in range(3):
            display.poll()
        folder.write_metrics(3, metrics_of(3))
        display.poll()
    assert re.findall(r"^step +(\d+)/", out.getvalue(), re.MULTILINE) == ["1", "2", "3"]


def test_half_written_step_is_not_shown_until_it_is_whole(tmp_path: Path) -> None:
    folder, out = recorded_run(tmp_path, steps=2, end=""), io.StringIO()
    display = LiveDisplay(folder, Console(file=out))
    whole = folder.metrics_file.read_bytes()
    folder.metrics_file.write_bytes(whole[:-5])
    display.poll()
    assert out.getvalue().count("\nstep ") == 1
    folder.metrics_file.write_bytes(whole)
    display.poll()
    assert out.getvalue().count("\nstep ") == 2


def test_panel_shows_step_phase_time_left_and_every_reward(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=12, total=40, end="")
    text = _drawn(folder, after=4.0)
    assert "step 12/40" in text
    assert re.search(r"elapsed, \d:\d\d left", text)
    assert re.search(r"update_weights +0:04", text)
    for reward in ("correct", "format", "short"):
        mean = metrics_of(12)[f"reward/{reward}/mean"]
        assert re.search(rf"{reward} +{mean:.3f} +[▲▼·] [+-]0\.\d+ +[▁▂▃▄▅▆▇█]{{12}} ", text)
    assert re.search(r"response length +\d+\.\d tok", text)
    assert re.search(r"step time +\d\.\d s", text)


def test_panel_lines_and_report_call_a_metric_the_same(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=12, total=40, end="")
    page = write_report(folder)[1].read_text(encoding="utf-8")
    for name in ("response length", "step time", *REWARDS):
        assert all(name in shown for shown in (_drawn(folder), _plain(folder)[-1], page))


def test_panel_during_startup_shows_its_phases_with_seconds(tmp_path: Path) -> None:
    text = _drawn(recorded_run(tmp_path, steps=0, end=""), after=41.3)
    assert re.search(r"✓ start ray +8\.0 s", text)
    assert re.search(r"✓ load model +24\.0 s", text)
    assert re.search(r"start vLLM +41\.3 s", text)


def test_panel_of_a_run_that_wrote_nothing_yet_says_it_waits(tmp_path: Path) -> None:
    assert "waiting for the run to begin" in _drawn(new_run(tmp_path))


@pytest.mark.parametrize("width", [30, 60, 200])
def test_panel_keeps_to_the_width_of_the_terminal(tmp_path: Path, width: int) -> None:
    text = _drawn(recorded_run(tmp_path, steps=40, end=""), width=width)
    assert max(map(len, text.splitlines())) <= min(width, 100)


def test_detail_with_brackets_is_text_and_not_markup(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.announce(5, ["a"])
    folder.event("load [bold]model")
    assert "load [bold]model" in _drawn(folder)
    folder.event("failed", detail="KeyError: [/red] [bold]x")
    assert "KeyError: [/red] [bold]x" in _drawn(folder)


def test_terminal_display_redraws_in_place(tmp_path: Path) -> None:
    folder, out = recorded_run(tmp_path, steps=2, end=""), io.StringIO()
    console = Console(file=out, force_terminal=True, width=90)
    with LiveDisplay(folder, console, interactive=True) as display:
        display.poll()
        folder.write_metrics(3, metrics_of(3))
        display.poll()
    assert "step 3/40" in out.getvalue()
    assert "\x1b[1A" in out.getvalue()


def test_watch_returns_when_the_run_is_done(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1, end="")
    finish = threading.Timer(0.2, lambda: folder.event("done"))
    finish.start()
    assert watch(folder, lambda: True, Console(file=io.StringIO()), interval_s=0.02) == "done"


def test_watch_leaves_a_run_whose_process_is_gone(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1, end="")
    assert watch(folder, lambda: False, Console(file=io.StringIO()), interval_s=0.02, grace_s=0.1) == "gone"


def test_watch_still_hears_the_last_words_of_a_run_that_is_gone(tmp_path: Path) -> None:
    folder, out = recorded_run(tmp_path, steps=1, end=""), io.StringIO()
    threading.Timer(0.15, lambda: folder.event("failed", detail="killed by signal 9")).start()
    assert watch(folder, lambda: False, Console(file=out), interval_s=0.02, grace_s=3) == "failed"
    assert "killed by signal 9" in out.getvalue()
