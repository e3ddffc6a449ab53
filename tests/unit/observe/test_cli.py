"""`mrpo watch` and `mrpo report`, and what they (don't) import."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import mrpo
from mrpo.cli import watch
from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.run_folder import RunFolder

from .runs import new_run, recorded_run

pytestmark = pytest.mark.unit

_ROOT = Path(mrpo.__file__).parents[1]


def _python(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_record_and_pictures_import_no_torch_ray_or_verl_and_matplotlib_only_for_a_report(tmp_path: Path) -> None:
    code = """
import importlib, json, pkgutil, sys
import mrpo.cli.report, mrpo.cli.watch, mrpo.observe, mrpo.record
for package in (mrpo.observe, mrpo.record):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
before = set(sys.modules)
from mrpo.record.run_folder import RunFolder
mrpo.observe.report.write_report(RunFolder(sys.argv[1]))
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""
    before, after = map(set, json.loads(_python(code, str(recorded_run(tmp_path).path))))
    assert {"mrpo.observe.live", "mrpo.observe.figure", "mrpo.record.logs"} <= before
    assert not {"torch", "ray", "verl"} & after
    assert not {"matplotlib", "numpy"} & before
    assert "matplotlib" in after
    assert "matplotlib.pyplot" not in after  # it would look for a display


def test_report_writes_both_files_and_prints_their_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded_run(tmp_path, steps=2)
    assert invoke(["report", "--runs", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.split() == [str(folder.png.resolve()), str(folder.html.resolve())]
    assert folder.png.exists()
    assert folder.html.exists()


def test_watch_of_a_finished_run_prints_it_and_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded_run(tmp_path, steps=2)
    assert invoke(["watch", str(folder.path)]) == 0
    assert capsys.readouterr().out.count("\nstep ") == 2


def test_watch_of_a_failed_run_exits_with_1(tmp_path: Path) -> None:
    assert invoke(["watch", str(recorded_run(tmp_path, steps=2, end="failed").path)]) == 1


@pytest.mark.parametrize("command", ["watch", "report"])
def test_unknown_run_exits_with_2_and_names_the_runs(tmp_path: Path, command: str) -> None:
    folder = new_run(tmp_path)
    with pytest.raises(ConfigError, match=folder.name) as caught:
        invoke([command, "nonsense", "--runs", str(tmp_path / "runs")])
    assert caught.value.exit_code == 2


def test_broken_metrics_exit_with_1_and_name_the_line(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=2)
    folder.metrics_file.write_text("oops\n")
    with pytest.raises(CorruptLineError, match=r"metrics\.jsonl:1: ") as caught:
        invoke(["report", str(folder.path)])
    assert caught.value.exit_code == 1


def test_run_counts_as_alive_while_its_process_lives(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    is_alive = watch.liveness(folder)
    assert is_alive()  # no plan yet: nobody can tell
    folder.announce(5, ["a"])
    assert is_alive()
    dead = int(_python("import os; print(os.getpid())"))
    folder.event("plan", host=socket.gethostname(), pid=dead)
    assert not is_alive()
    folder.event("plan", host="another-host", pid=dead)
    assert is_alive()


def test_process_killed_in_mid_run_leaves_a_folder_that_can_be_read(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    code = """
import os, sys
from mrpo.record.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.announce(9, ["a"])
for step in (1, 2, 3):
    folder.write_metrics(step, {"reward/a/mean": step})
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(folder.path)], cwd=_ROOT, timeout=60)
    assert killed.returncode == -9
    assert [line["step"] for line in RunFolder(folder.path).metrics()] == [1, 2, 3]


def test_writers_in_several_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    code = """
import sys
from mrpo.record.run_folder import RunFolder
for place in range(300):
    RunFolder(sys.argv[1]).event(sys.argv[2], detail="x" * (place * 20))
"""
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(folder.path), name], cwd=_ROOT) for name in "abc"]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    assert len(folder.events()) == 900


def test_display_starts_fast_enough_to_be_the_first_thing_seen() -> None:
    """Counted in modules, not seconds, so that a busy machine can't fail it (torch alone brings over a thousand)."""
    assert int(_python("import sys, mrpo.observe.live; print(len(sys.modules))")) < 400
