"""The table of docs/rewards.md: what a response causes is a score, what it doesn't is a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.rewards.function import load_function
from mrpo.rewards.library import _limit
from mrpo.rewards.library._run_cases import CaseRunner
from mrpo.rewards.outcome import Outcome, RewardError
from mrpo.rewards.sandbox import commands, memory
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit

TESTS = [{"input": "1", "output": "3"}, {"input": "2", "output": "3"}]
CALLS = {"inputs": [[1], [2]], "outputs": [0.5, [0.5]], "fn_name": "f"}
PROGRAMS: dict[str, tuple[str | None, Any, float, float]] = {
    "solves it": ("print(3)", TESTS, 1, 0),
    "no block": (None, TESTS, 0, -1),
    "doesn't compile": ("def", TESTS, 0, -1),
    "raises at times": ("if input() == '1': 1 / 0\nprint(3)", TESTS, 0.5, -0.5),
    "exits with an error": ("print(3); raise SystemExit(2)", TESTS, 0, -1),
    "is killed": ("import os; os.kill(os.getpid(), 11)", TESTS, 0, -1),
    "too much memory": ("x = bytearray(2**33)\nprint(3)", TESTS, 0, -1),
    "too many processes": ("import os\nfor _ in range(99): os.fork()\nprint(3)", TESTS, 0, -1),
    "too many files": ("for n in range(10**6): open(f'/tmp/{n}', 'w').close()\nprint(3)", TESTS[:1], 0, -1),
    "another result": ("print(4)", TESTS, 0, 0),
    "a number too large": ("def f(x): return 10**400", CALLS, 0, 0),
    "not a number": ("def f(x): return float('nan')", CALLS, 0, 0),
    "no JSON": ("def f(x): return {x}", CALLS, 0, 0),
    "nested deep": ("def f(x):\n    for _ in range(900): x = [x]\n    return x", CALLS, 0, 0),
    "longer than allowed": ("print('3' * 2**21)", TESTS, 0, 0),
    "slow": ("while True: pass", TESTS[:1], 0, 0),
    "kills what runs it": ("import os; os.kill(os.getppid(), 9)", TESTS, 0, -1),
}


def outcome(name: str, response: str, truth: Any, **options: Any) -> Outcome:
    function = load_function(name, Path(), options)
    try:
        return Outcome.of(function([], response, truth, {}))
    except Exception as error:
        return Outcome.raised(error)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_causes_is_its_score(name: str) -> None:
    require_sandbox()
    program, tests, passed, bugs = PROGRAMS[name]
    response = "I can't." if program is None else f"```python\n{program}\n```"
    seconds = 1 if name == "slow" else 10
    assert outcome("code", response, tests, seconds=seconds) == Outcome(passed)
    assert outcome("bug_ratio", response, tests, seconds=seconds) == Outcome(bugs)


@pytest.mark.parametrize(
    ("name", "response", "truth", "options"),
    [
        ("math", rf"\boxed{{{'1+' * 600}1}}", "601", {}),
        ("math", r"\boxed{9^{9^{9^9}}}", "2", {}),
        ("math", r"\boxed{(1+\sqrt2+\sqrt3)^{999}}", "2", {}),
        ("json_schema", "[" * 10_000, None, {"schema": {}}),
        ("regex", "a" * 40 + "b", None, {"pattern": "^(a+)+$"}),
    ],
)
def test_what_takes_too_long_or_is_too_large_is_0(
    name: str, response: str, truth: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_limit, "MAX_SECONDS", 0.3)
    assert outcome(name, response, truth, **options) == Outcome(0.0)


def test_what_the_configuration_the_machine_or_the_data_cause_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    require_sandbox()
    response = "```python\nprint(3)\n```"
    assert outcome("code", response, TESTS, preamble="1 / 0").cause == "sandbox"
    assert "ZeroDivisionError" in (outcome("code", response, TESTS, preamble="1 / 0").failure or "")
    assert outcome("code", response, "no tests").cause == "exception"
    assert outcome("math", r"\boxed{2}", None).cause == "exception"
    assert outcome("json_schema", "1", None, schema=None).cause == "exception"

    def failing_group(*_: Any) -> Path:
        raise OSError("a full disk, injected")

    with monkeypatch.context() as patch:
        if memory.parent_group() is not None:
            patch.setattr(memory, "make", failing_group)
            assert outcome("code", response, TESTS).cause == "sandbox"

    def failing_command(folder: Path) -> list[str]:
        return ["false"]

    monkeypatch.setattr(commands, "by_unshare", failing_command)
    monkeypatch.setattr(commands, "by_bwrap", failing_command)
    assert outcome("code", response, TESTS).cause == "sandbox"


def test_a_python_that_cant_start_in_its_memory_is_no_bug_of_the_program() -> None:
    require_sandbox()
    runner = CaseRunner()
    runner.memory = 0.001
    with pytest.raises(RewardError, match="the program was never started"):
        runner.verdicts("```python\nprint(3)\n```", TESTS)
