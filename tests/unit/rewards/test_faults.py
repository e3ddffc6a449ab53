"""What a reward function can do wrong, done to the real scorer: the outcome says what, in time, and scoring goes on."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.run import RewardConfig
from mrpo.rewards.outcome import MAX_FAILURE, Outcome
from mrpo.rewards.scorer import Scorer

pytestmark = pytest.mark.unit

TIMEOUT = 0.5
BOUND = 20.0
"""Seconds in which a fault must be over. The machine may be busy; without the bound it would hang."""
LATE = r"timeout: no score within 0\.5 s"
DIED = "crash: the process that scored it "

FAULTS = {
    "raises": ("raise KeyError('x')", r"exception: KeyError: 'x'"),
    "raises_much": ("raise ValueError('x' * 10_000_000)", r"exception: ValueError: x+"),
    "recurses": ("f = lambda: f(); f()", r"exception: RecursionError: .*"),
    "hangs": ("time.sleep(60)", LATE),
    "is_late": ("time.sleep(0.55)\n    return 1.0", LATE),
    "hangs_in_c": ("ctypes.PyDLL(None).sleep(60)", LATE),
    "hangs_in_a_regex": ("re.match('(a+)+$', 'a' * 40 + 'b')", LATE),
    "hangs_and_ignores_signals": (
        "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT)]; time.sleep(60)",
        LATE,
    ),
    "returns_nan": ("return float('nan')", r"not finite: nan"),
    "returns_inf": ("return {'score': float('inf')}", r"not finite: inf"),
    "returns_too_much": ("return 10 ** 400", r"not finite: int too large to convert to float"),
    "returns_text": ("return '1.0'", r"wrong type: str"),
    "returns_long_text": ("return 'x' * 50_000_000", r"wrong type: str"),
    "returns_another_dict": ("return {'points': 1}", r"wrong type: a dict without 'score', with \['points'\]"),
    "returns_a_huge_dict": ("return dict.fromkeys(range(100_000))", r"wrong type: a dict without 'score'.*"),
    "returns_what_cant_be_pickled": ("return lambda: 1", r"wrong type: function"),
    "returns_a_coroutine": ("return asyncio.sleep(0)", r"wrong type: coroutine"),
    "returns_a_trap": (
        "return type('Trap', (), {'__float__': lambda self: 1 / 0})()",
        r"exception: ZeroDivisionError: .*",
    ),
    "is_out_of_range": ("return 7", r"out of range: 7 is not in \[0, 1\]"),
    "calls_sys_exit": ("sys.exit(1)", r"exception: SystemExit: 1"),
    "exits": ("os._exit(1)", DIED + r"exited with code 1"),
    "exits_well": ("os._exit(0)", DIED + r"exited with code 0"),
    "segfaults": ("ctypes.string_at(0)", DIED + r"was killed by signal 11 \(Segmentation fault\)"),
    "is_killed": ("os.kill(os.getpid(), 9)", DIED + r"was killed by signal 9 \(out of memory\?\)"),
    "takes_all_memory": ("x = bytearray(2**30)", r"exception: MemoryError"),
    "takes_memory_bit_by_bit": ("x = []\n    while True: x.append(bytes(2**20))", r"exception: MemoryError"),
    "closes_everything": ("os.closerange(0, 64)", DIED + r"(closed its connection|exited with code \d+)"),
    "writes_everywhere": (
        "for n in range(3, 64):\n        try: os.write(n, b'garbage' * 9)\n        except OSError: pass\n    return 1",
        DIED + r"sent garbage on its connection",
    ),
}
ASYNC_FAULTS = {
    "async_raises": ("raise KeyError('x')", r"exception: KeyError: 'x'"),
    "async_hangs": ("await asyncio.sleep(60)", LATE),
    "async_hangs_on": (
        "while True:\n        try: await asyncio.sleep(60)\n        except asyncio.CancelledError: pass",
        LATE,
    ),
    "async_blocks_its_loop": ("time.sleep(60)", LATE),
    "async_hangs_in_c": ("ctypes.PyDLL(None).sleep(60)", LATE),
    "async_times_out_itself": ("raise TimeoutError('its own')", r"exception: TimeoutError: its own"),
    "async_cancels_itself": ("raise asyncio.CancelledError", r"exception: CancelledError"),
    "async_returns_nan": ("return float('nan')", r"not finite: nan"),
    "async_calls_sys_exit": ("sys.exit(1)", r"exception: SystemExit: 1"),
    "async_exits": ("os._exit(1)", DIED + r"exited with code 1"),
}
OTHERS = """
def prints(prompt, response, truth, extra):
    print("\\x00garbage" * 1000); os.write(1, b"\\xff" * 1000); os.write(2, b"\\xff" * 10)
    return 1.0
def forks(prompt, response, truth, extra):
    os.fork()
    return 1.0
def starts_and_hangs(prompt, response, truth, extra):
    if response == "good": return 1.0
    same_group = subprocess.Popen(["sleep", "300"])
    own_session = subprocess.Popen(["sleep", "300"], start_new_session=True)
    with open(truth, "w") as file: print(same_group.pid, own_session.pid, file=file)
    time.sleep(300)
def raises_at_times(prompt, response, truth, extra):
    if int(response) % 20 == 0: raise ValueError(response)
    return float(response)
def exits_at_times(prompt, response, truth, extra):
    if int(response) % 20 == 0: os._exit(1)
    return float(response)
async def async_exits_at_times(prompt, response, truth, extra):
    await asyncio.sleep(0.01)
    if int(response) % 20 == 0: os._exit(1)
    return float(response)
async def async_blocks_at_times(prompt, response, truth, extra):
    if int(response) % 20 == 0: time.sleep(60)
    await asyncio.sleep(0.01)
    return float(response)
def always_raises(prompt, response, truth, extra): raise ValueError
def always_hangs(prompt, response, truth, extra): time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = "def {}(prompt, response, truth, extra):\n    if response == 'good': return 1.0\n    {}\n"
    functions = [head.format(name, body) for name, (body, _) in FAULTS.items()]
    functions += ["async " + head.format(name, body) for name, (body, _) in ASYNC_FAULTS.items()]
    folder = tmp_path_factory.mktemp("faults")
    imports = "import asyncio, ctypes, os, re, signal, subprocess, sys, time\n"
    (folder / "faults.py").write_text(imports + "".join(functions) + OTHERS)
    return folder


def score(
    folder: Path, name: str, *responses: str, truth: Any = None, together: bool = False, **settings: Any
) -> list[Outcome]:
    """The outcomes of one reward, one response after the other or all at once, within the bound."""
    config = RewardConfig(**{"function": f"faults.py:{name}", "timeout": TIMEOUT, **settings})

    async def run() -> list[Outcome]:
        async with Scorer({"reward": config}, folder) as scorer:
            start = time.monotonic()
            if together:
                outcomes = list(await asyncio.gather(*(scorer.score([], each, truth, {}) for each in responses)))
            else:
                outcomes = [await scorer.score([], each, truth, {}) for each in responses]
            assert time.monotonic() - start < BOUND
        return [outcome["reward"] for outcome in outcomes]

    return asyncio.run(run())


@pytest.fixture(scope="module")
def bad_then_good(folder: Path) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """One scorer with every fault as a reward of its own: the outcomes while all go wrong, and of the next response."""
    settings: dict[str, Any] = {"timeout": TIMEOUT, "memory": 0.5, "range": (0.0, 1.0)}
    rewards = {name: RewardConfig(function=f"faults.py:{name}", **settings) for name in (*FAULTS, *ASYNC_FAULTS)}

    async def run() -> tuple[dict[str, Outcome], dict[str, Outcome]]:
        async with Scorer(rewards, folder) as scorer:
            start = time.monotonic()
            bad = await scorer.score([], "bad", None, {})
            assert time.monotonic() - start < BOUND
            return bad, await scorer.score([], "good", None, {})

    return asyncio.run(run())


@pytest.mark.parametrize("name", [*FAULTS, *ASYNC_FAULTS])
def test_a_fault_is_reported_and_the_next_response_is_scored(
    bad_then_good: tuple[dict[str, Outcome], dict[str, Outcome]], name: str
) -> None:
    bad, good = bad_then_good[0][name], bad_then_good[1][name]
    assert bad.score is None
    assert bad.failure is not None
    assert re.fullmatch({**FAULTS, **ASYNC_FAULTS}[name][1], bad.failure, re.DOTALL), bad.failure
    assert len(bad.failure) <= MAX_FAILURE
    assert good == Outcome(1.0)


def test_what_is_printed_goes_nowhere_near_the_outcomes(folder: Path) -> None:
    assert score(folder, "prints", "a", "b") == [Outcome(1.0)] * 2


def test_a_copy_of_the_process_doesnt_answer_too(folder: Path) -> None:
    assert score(folder, "forks", "a", "b", "c") == [Outcome(1.0)] * 3


def test_what_a_hanging_function_started_is_killed_with_it(folder: Path, tmp_path: Path) -> None:
    bad, good = score(folder, "starts_and_hangs", "bad", "good", truth=str(tmp_path / "started"))
    assert (bad.cause, good) == ("timeout", Outcome(1.0))
    started = [int(process) for process in (tmp_path / "started").read_text().split()]
    deadline = time.monotonic() + BOUND
    while any(map(running, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(running, started))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("raises_at_times", "exception"),
        ("exits_at_times", "crash"),
        ("async_exits_at_times", "crash"),
        ("async_blocks_at_times", "timeout"),
    ],
)
def test_a_few_faults_cost_only_their_own_scores(folder: Path, name: str, cause: str) -> None:
    outcomes = score(folder, name, *map(str, range(40)), together=True, processes=2)
    for n, outcome in enumerate(outcomes):
        assert (outcome.cause, outcome.score) == ((cause, None) if n % 20 == 0 else (None, float(n)))


def test_a_reward_that_always_fails_says_so_every_time(folder: Path) -> None:
    assert (
        score(folder, "always_raises", *["a"] * 100, together=True) == [Outcome(failure="exception: ValueError")] * 100
    )


def test_a_reward_that_always_hangs_drains_at_its_timeout(folder: Path) -> None:
    outcomes = score(folder, "always_hangs", *["a"] * 8, together=True, processes=4, timeout=0.1)
    assert outcomes == [Outcome(failure="timeout: no score within 0.1 s")] * 8


def test_a_process_is_the_first_that_the_kernel_kills(folder: Path) -> None:
    (folder / "oom.py").write_text("def oom(*_): return int(open('/proc/self/oom_score_adj').read())")
    assert score(folder, "oom", "a", function="oom.py:oom") == [Outcome(1000.0)]


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
