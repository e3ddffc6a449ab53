"""What Ray's workers printed, brought into the run's folder under the actors' names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_WORKER = re.compile(r"worker-[0-9a-f]+-(?P<job>[0-9a-f]+)-(?P<pid>\d+)\.(?P<stream>(\d+\.)?(out|err)(\.\d+)?)")
"""With a number: what came before, of a stream that has grown beyond the size at which Ray begins a new file."""
_LABEL = re.compile(rb"^:(actor|task)_name:(.+)$", re.MULTILINE)
_RAY_SERVICES = ("raylet", "gcs_server", "dashboard", "dashboard_agent", "runtime_env_agent", "monitor", "log_monitor")


def collect_actor_logs(session_logs: Path, destination: Path, job: str | None = None) -> list[Path]:
    """Copy each worker's output to ``destination/<Actor>-<pid>.{out,err}`` and Ray's own errors to ``…/ray/``.

    A stream that holds nothing besides Ray's labels is left out. Safe to call again while the run goes on: files are
    replaced by their newer state.

    Args:
        session_logs: the ``logs`` folder of Ray's session.
        destination: made if it isn't there.
        job: Ray's id of the job whose workers count, where a Ray has several; None: all.
    Returns:
        The files written.
    Raises:
        FileNotFoundError: there is no ``session_logs``.
    """
    if not session_logs.is_dir():
        raise FileNotFoundError(f"no folder of Ray's logs at {session_logs}")
    destination.mkdir(parents=True, exist_ok=True)
    workers: dict[str, list[tuple[Path, str]]] = {}
    for file in sorted(session_logs.iterdir()):
        match = _WORKER.fullmatch(file.name)
        if match and job in (None, match["job"]):
            workers.setdefault(match["pid"], []).append((file, match["stream"]))
    written = []
    for pid, streams in workers.items():
        name = _worker_name([file for file, _ in streams])
        for file, stream in streams:
            if _has_output(file):
                written.append(Path(shutil.copyfile(file, destination / f"{name}-{pid}.{stream}")))
    services = [session_logs / f"{service}.{end}" for service in _RAY_SERVICES for end in ("err", "out", "log")]
    ours = [file for file in services if file.is_file() and file.stat().st_size and _reports_error(file)]
    if ours:
        (destination / "ray").mkdir(exist_ok=True)
    return written + [Path(shutil.copyfile(file, destination / "ray" / file.name)) for file in ours]


def remove_actor_logs(session_logs: Path, job: str) -> None:
    """Remove the output of this job's workers, all of which have ended."""
    for file in session_logs.iterdir():
        match = _WORKER.fullmatch(file.name)
        if match and match["job"] == job:
            file.unlink()


def _worker_name(files: list[Path]) -> str:
    """The actor's name; for a worker without an actor, its first task's; "worker" if it ran nothing."""
    labels = [label for file in files for label in _LABEL.findall(_head(file))]
    actors = [text for kind, text in labels if kind == b"actor"] or [text for _, text in labels] or [b"worker"]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", actors[0].decode("utf-8", "replace").strip()).strip("-.") or "worker"


def _head(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(65536)  # an actor's label comes after what its imports print


def _has_output(file: Path) -> bool:
    lines = _head(file).splitlines()
    return any(line.strip() and not line.startswith((b":actor_name:", b":task_name:", b":job_id:")) for line in lines)


def _reports_error(file: Path) -> bool:
    """Ray's services write megabytes of routine; keep their stderr, and other files that speak of an error."""
    if file.suffix == ".err":
        return True
    with open(file, "rb") as stream:
        return any(re.search(rb"\b(ERROR|FATAL|CRITICAL)\b|^\[[^]]* [EFC] ", line) for line in stream)
