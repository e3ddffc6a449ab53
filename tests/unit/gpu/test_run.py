"""The run on a GPU, without one: a sentence at once; and parts that go wrong take nothing from the others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import tests.gpu.part
from tests.gpu import run as module
from tests.gpu.part import Context, Part
from tests.gpu.run import main

pytestmark = pytest.mark.unit
SCRIPT = Path(tests.gpu.part.__file__).with_name("run.sh")
here_is_no_gpu = pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has one")

MARK = "600.125"
FAULTY = """
import os, sys, types
from tests.gpu.part import Part, main

def faulty_raises(context):
    context.report.figure("before", 1.5)
    raise ValueError("on | purpose")

def faulty_hangs(context):
    context.report.figure("before", 2)
    os.system("sleep 600.125 & wait")

def faulty_dies(context):
    os._exit(3)

def sound(context):
    context.report.figure("kept", "yes")
    context.report.require("it holds", True)

def unmet(context):
    context.report.require("two is one", False)
    context.report.figure("after", 7)

parts = tuple(Part(f.__name__, 60, f) for f in (faulty_raises, faulty_hangs, faulty_dies, sound, unmet))
sys.modules["tests.gpu.parts"] = types.SimpleNamespace(PARTS=parts)  # instead of the real ones
raise SystemExit(main())
"""


@here_is_no_gpu
def test_without_a_gpu_it_says_so_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    command = [str(SCRIPT), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHON": sys.executable, "PATH": "/bin"})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"tests/gpu/run.sh: {module.NO_GPU}"]
    assert time.monotonic() - began < 20
    assert not (tmp_path / "out").exists()


def test_a_part_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--device", "cpu", "--only", "doctr"]) == 2
    assert "given doctr, allowed with --device cpu: doctor, imports" in capsys.readouterr().err


def test_parts_that_fail_hang_or_die_hide_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_parts.py").write_text(FAULTY)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def no_part(context: Context) -> None: ...

    parts = [Part(name, 6.0, no_part) for name in ("faulty_raises", "faulty_dies", "sound", "unmet")]
    parts += [Part("faulty_hangs", 0.5, no_part), Part("never", 1000.0, no_part)]
    options = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu"]
    assert main([*options, "--seconds", "200"], parts, "faulty_parts") == 1
    content = json.loads((tmp_path / "out" / "gpu.json").read_text())
    found: dict[str, Any] = {part["part"]: part for part in content["parts"]}
    assert {name: part["outcome"] for name, part in found.items()} == {
        "faulty_raises": "failed",
        "faulty_dies": "failed",
        "sound": "passed",
        "unmet": "failed",
        "faulty_hangs": "timed out",
        "never": "not run",
    }
    assert found["faulty_raises"]["error"] == "ValueError: on | purpose"
    assert found["faulty_raises"]["figures"] == {"before": 1.5}
    assert found["faulty_hangs"]["figures"] == {"before": 2}
    assert found["faulty_dies"]["error"] == "exit code 3"
    assert (found["unmet"]["unmet"], found["unmet"]["figures"]) == (["two is one"], {"after": 7})
    table = (tmp_path / "out" / "gpu.md").read_text()
    assert re.search(r"^\| sound \| passed, \d+ s \| kept \| yes \|$", table, re.MULTILINE)
    assert "ValueError: on \\| purpose" in table
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", MARK]]
