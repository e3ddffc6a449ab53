"""The soak's verdict, on figures whose growth is known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from mrpo.record import jsonl
from mrpo.record.run_folder import RunFolder
from tests.faults.soak.judge import Verdict, judge
from tests.faults.soak.sample import Sample, Sampler, wait_until_gone

pytestmark = pytest.mark.unit
WARM_UP, STEPS = 50, 350


def verdict(name: str, figure: Callable[[int], float], steps: int = STEPS, attempt: int = 1) -> Verdict:
    [found] = judge(samples(name, figure, steps, attempt), WARM_UP)
    return found


def samples(name: str, figure: Callable[[int], float], steps: int = STEPS, attempt: int = 1) -> list[Sample]:
    """Two samples a step."""
    return [
        {"time": 2.0 * i, "attempt": attempt, "step": i // 2, "figures": {name: figure(i // 2)}, "pids": [1]}
        for i in range(2 * steps)
    ]


def noisy(step: int) -> float:
    return float(np.random.default_rng(step).normal(0, 5)) + 80 * (step % 25 == 0)


def test_noise_and_spikes_at_validations_are_flat() -> None:
    assert not verdict("Controller/PSS MiB", lambda step: 200 + noisy(step)).grows


@pytest.mark.parametrize(
    ("figure", "by_step"), [("PSS MiB", 0.03), ("descriptors", 0.01), ("threads", 0.03), ("processes", 0.005)]
)
def test_a_leak_beneath_the_noise_is_found_and_named(figure: str, by_step: float) -> None:
    found = verdict(f"Controller/{figure}", lambda step: 100 + int(by_step * step * 100) / 100)
    assert found.grows
    assert found.slope == pytest.approx(1000 * by_step, rel=0.05)
    assert str(found).startswith(f"Controller: {figure} 10")


def test_a_descriptor_lost_every_hundred_steps_is_found() -> None:
    assert verdict("Controller/descriptors", lambda step: 50 + step // 100).slope >= 0
    assert verdict("Controller/descriptors", lambda step: 50 + step // 20).grows


def test_growth_in_the_warm_up_alone_is_flat() -> None:
    assert not verdict("WorkerDict/PSS MiB", lambda step: 10.0 * min(step, WARM_UP)).grows


def test_what_is_written_by_the_step_may_grow_steadily_but_not_ever_faster() -> None:
    kib = 1 / 1024
    steady = verdict("run folder: metrics.jsonl/MiB", lambda step: 7 * kib * step)
    assert (steady.grows, round(steady.slope, 2)) == (False, 6.84)
    assert verdict("run folder: metrics.jsonl/MiB", lambda step: 0.01 * kib * step * step + kib * step).grows
    assert verdict("log: Controller .err/MiB", lambda step: 40 * kib * step).grows
    assert not verdict("run folder: rollouts/files", lambda step: step).grows
    assert verdict("run folder: rollouts/files", lambda step: 2 * step).grows
    assert verdict("temporary folder/files", lambda step: step).grows


def test_the_attempt_with_the_most_steps_is_judged() -> None:
    short = samples("Controller/threads", lambda step: step, steps=20)
    [found] = judge([*short, *samples("Controller/threads", lambda _: 5, attempt=2)], WARM_UP)
    assert (found.start, found.end, found.grows) == (5, 5, False)


def test_too_few_steps_are_not_called_flat() -> None:
    with pytest.raises(ValueError, match="149 steps after the first 50 of an attempt: 200 are needed"):
        judge(samples("Controller/threads", lambda _: 5, steps=200), WARM_UP)
    with pytest.raises(ValueError, match="0 steps"):
        judge([], WARM_UP)


def test_a_sample_has_every_process_of_the_command_with_its_descriptors_and_files(tmp_path: Path) -> None:
    run, temporary = RunFolder(tmp_path / "run"), tmp_path / "tmp"
    (temporary / "mrpo-1" / "logs").mkdir(parents=True)
    (temporary / "mrpo-1" / "logs" / "raylet.out").write_bytes(b"x" * 2**20)
    run.path.mkdir()
    run.write_metrics(7, {"a": 1.0})
    opens = "import sys; files = [open('/dev/null') for _ in range(40)]; print(flush=True); sys.stdin.read()"
    child = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {opens!r}])"]
    sampler = Sampler(run, temporary, tmp_path / "samples.jsonl", 0.05)
    with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sampler.follow(process.pid)
        sampler.start()
        deadline = time.monotonic() + 10
        while not jsonl.read(tmp_path / "samples.jsonl") and time.monotonic() < deadline:
            time.sleep(0.02)
        sampler.stop()
        alive = wait_until_gone(sampler.seen, 0.05)[1]
        process.communicate()
    [sample, *_] = jsonl.read(tmp_path / "samples.jsonl")
    assert (sample["step"], len(sample["pids"])) == (7, 2)
    assert sample["figures"]["all processes/processes"] == 2
    assert sample["figures"]["all processes/descriptors"] >= 40
    assert sample["figures"]["all processes/PSS MiB"] > 5
    assert sample["figures"]["log: raylet.out/MiB"] == sample["figures"]["logs/MiB"] == 1
    assert sample["figures"]["run folder: metrics.jsonl/files"] == 1
    assert len(alive) == 2
    assert wait_until_gone(sampler.seen, 10)[1] == []
    assert not any(psutil.pid_exists(pid) and pid != os.getpid() for pid in sample["pids"])
