"""Workers' output lands under their actors' names, and a failure shows its own cause."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mrpo.record.cause import root_cause
from mrpo.record.logs import collect_actor_logs, remove_actor_logs

from . import tracebacks

pytestmark = pytest.mark.unit

_ID = "856e488ad662513c1d8dd34cd305038df69cb2d1c15df4082d218781"


def _session(tmp_path: Path, files: dict[str, str]) -> Path:
    logs = tmp_path / "session" / "logs"
    logs.mkdir(parents=True)
    for name, text in files.items():
        (logs / name).write_text(text)
    return logs


def _worker(pid: int, end: str, job: str = "01000000") -> str:
    return f"worker-{_ID}-{job}-{pid}.{end}"


def test_worker_streams_are_named_by_actor_and_process(tmp_path: Path) -> None:
    session = _session(
        tmp_path,
        {
            _worker(11, "out"): ":job_id:01000000\n:actor_name:TaskRunner\nhello\n",
            _worker(11, "err"): ":job_id:01000000\nan import prints first\n:actor_name:TaskRunner\nwarning\n",
            _worker(12, "out"): ":job_id:01000000\n:actor_name:vLLM server/0 ../x\nready\n",
            _worker(13, "out"): ":job_id:01000000\n:task_name:get_port\n:task_name:get_port\n8080\n",
            _worker(14, "out"): "no label\n",
        },
    )
    written = collect_actor_logs(session, tmp_path / "run")
    assert sorted(file.name for file in written) == [
        "TaskRunner-11.err",
        "TaskRunner-11.out",
        "get_port-13.out",
        "vLLM-server-0-..-x-12.out",
        "worker-14.out",
    ]
    assert all(file.parent == tmp_path / "run" for file in written)
    assert (tmp_path / "run" / "TaskRunner-11.out").read_text().endswith("hello\n")


def test_a_stream_that_was_rotated_is_collected_whole(tmp_path: Path) -> None:
    label = ":job_id:01000000\n:actor_name:A\n"
    files = {_worker(11, "out"): f"{label}x\n", _worker(11, "err"): "new\n", _worker(11, "err.1"): f"{label}old\n"}
    written = collect_actor_logs(_session(tmp_path, files), tmp_path / "run")
    assert sorted(file.name for file in written) == ["A-11.err", "A-11.err.1", "A-11.out"]
    assert (tmp_path / "run" / "A-11.err.1").read_text().endswith("old\n")


def test_a_job_on_a_shared_ray_gets_its_own_workers_logs_only(tmp_path: Path) -> None:
    files = {
        _worker(11, "out", "01000000"): ":actor_name:A\nhers\n",
        _worker(12, "out", "02000000"): ":actor_name:A\nmine\n",
    }
    written = collect_actor_logs(_session(tmp_path, files), tmp_path / "run", job="02000000")
    assert [file.name for file in written] == ["A-12.out"]


def test_only_the_output_of_one_job_is_removed(tmp_path: Path) -> None:
    others = {_worker(12, "out", "02000000"), "raylet.out"}
    session = _session(tmp_path, dict.fromkeys([_worker(11, "out"), _worker(11, "out.1"), *others], "text"))
    remove_actor_logs(session, "01000000")
    assert {file.name for file in session.iterdir()} == others


def test_stream_with_nothing_but_labels_is_left_out_and_the_other_one_kept(tmp_path: Path) -> None:
    files = {
        _worker(11, "out"): ":job_id:01000000\n:actor_name:A\n",
        _worker(11, "err"): "boom\n",
        _worker(12, "out"): "",
    }
    written = collect_actor_logs(_session(tmp_path, files), tmp_path / "run")
    assert [file.name for file in written] == ["A-11.err"]


def test_only_the_troubles_of_rays_own_services_are_kept(tmp_path: Path) -> None:
    files = {
        "raylet.err": "crash\n",
        "raylet.out": "[2026-01-01 00:00:00,1 I 1 1] (raylet) fine\n",
        "gcs_server.out": "[2026-01-01 00:00:00,1 E 1 1] (gcs_server) lost a node\n",
        "dashboard.log": "2026-01-01 INFO fine\n",
        "dashboard_agent.log": "2026-01-01 00:00:00\tERROR agent.py:1 -- no port\n",
        "monitor.err": "",
        "python-core-worker-1.log": "ERROR\n",
    }
    collect_actor_logs(_session(tmp_path, files), tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run" / "ray")) == ["dashboard_agent.log", "gcs_server.out", "raylet.err"]


def test_collecting_again_brings_what_was_added(tmp_path: Path) -> None:
    session = _session(tmp_path, {_worker(11, "out"): ":actor_name:A\none\n"})
    collect_actor_logs(session, tmp_path / "run")
    (session / _worker(11, "out")).write_text(":actor_name:A\none\ntwo\n")
    collect_actor_logs(session, tmp_path / "run")
    assert (tmp_path / "run" / "A-11.out").read_text().endswith("two\n")


def test_missing_session_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        collect_actor_logs(tmp_path / "nowhere", tmp_path / "run")


def test_cause_of_a_nested_failure_is_the_innermost_error_in_the_users_file() -> None:
    cause = "KeyError: 'answer'\n  at /app/rewards.py:2, in score\n  in Inner.score, process 6994"
    assert root_cause(tracebacks.NESTED) == cause


def test_cause_of_a_task_without_frames_is_not_rays_own_wrapper() -> None:
    bare = tracebacks.DRIVER + "ray.exceptions.RayTaskError(KeyError): ray::f() (pid=5, ip=10.0.0.2)\nKeyError: 'x'\n"
    assert root_cause(bare).startswith("KeyError: 'x'\n")


def test_cause_of_a_chained_failure_also_says_what_it_led_to() -> None:
    lines = root_cause(tracebacks.CHAINED).splitlines()
    assert lines[:2] == ["KeyError: 'answer'", "  at /app/rewards.py:2, in score"]
    assert lines[-1] == "  which led to RuntimeError: reward 'correct' failed on {'a': 1}"


def test_cause_of_an_actor_that_failed_in_its_constructor() -> None:
    lines = root_cause(tracebacks.CREATION).splitlines()
    assert lines == ["KeyError: 'answer'", "  at /app/rewards.py:2, in score", "  in Dies.__init__, process 7062"]


def test_actor_that_died_is_named_and_is_cut_to_a_few_lines() -> None:
    cause = root_cause(tracebacks.DIED)
    assert cause.startswith("ray.exceptions.ActorDiedError: The actor died unexpectedly")
    assert "class_name: Exit" in cause
    assert "pid: 7092" in cause
    assert "at /app/train.py:29, in <module>" in cause
    assert len(cause) < 800


def test_error_raised_while_handling_another_is_itself_the_cause() -> None:
    lines = root_cause(tracebacks.HANDLING).splitlines()
    assert lines[:2] == ["ValueError: no attention kernel", "  at /app/train.py:5, in load"]
    assert lines[-1] == "  while handling ModuleNotFoundError: No module named 'flash'"


def test_frame_in_a_library_is_shown_when_there_is_no_other() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/v/lib/python3.11/site-packages/a.py", line 3, in f\nValueError\n'
    )
    assert root_cause(trace) == "ValueError\n  at /v/lib/python3.11/site-packages/a.py:3, in f"


@pytest.mark.parametrize("text", ["", "  \n", "just words", "Traceback (most recent call last):\n"])
def test_cause_is_never_empty(text: str) -> None:
    assert root_cause(text).strip()
