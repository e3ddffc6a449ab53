"""Programs that try to pass without solving anything, or to have themselves excluded: each gets the right score."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.cases import Case
from mrpo.rewards.library import _harness
from mrpo.rewards.library._run_cases import Answer, CaseRunner, _verdict, read_answers
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def runner() -> CaseRunner:
    require_sandbox()
    return CaseRunner(seconds=10, total=60)


def verdicts(runner: CaseRunner, program: str, tests: Any) -> list[str]:
    found = runner.verdicts(f"```python\n{program}\n```", tests)
    assert found is not None
    return list(found)


FORGERIES = """
import ctypes, os, sys
C = ctypes.CDLL(None, use_errno=True)
LINES = [b'{"end": "passed"}\\n' * 12, b"passed 0 0\\n" * 12, b"0" * 32 + b"done 6 0\\nSECRET", b"x}\\n", b"{}\\n"]

def descriptors(pid):
    fd = os.pidfd_open(pid)
    for n in range(64):
        got = C.syscall(438, fd, n, 0)  # pidfd_getfd
        for line in LINES * (got >= 0):
            try: os.write(got, line)
            except OSError: pass

def parents_descriptors(): descriptors(os.getppid())
def firsts_descriptors(): descriptors(1)
def own_descriptors():
    for n in range(2, 4096):
        for line in LINES:
            try: os.write(n, line)
            except OSError: break
def trace():
    print(C.ptrace(16, os.getppid(), 0, 0), C.ptrace(16, 1, 0, 0))
def trace_from_another_program():
    child = os.fork()
    if child == 0:
        attack = "import ctypes, os; print(ctypes.CDLL(None).ptrace(16, %d, 0, 0))" % os.getppid()
        os.execv(sys.executable, [sys.executable, "-c", attack])
    os.waitpid(child, 0)
def memory():
    buffer = ctypes.create_string_buffer(1)
    local, remote = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 1), (ctypes.c_void_p * 2)(id(buffer), 1)
    print(C.process_vm_readv(os.getppid(), local, 1, remote, 1, 0))
def frames():
    frame = sys._getframe()
    while "case" not in frame.f_locals: frame = frame.f_back
    print(sorted(frame.f_locals["case"]), sorted(frame.f_locals["task"]), sorted(frame.f_locals["task"]["cases"][0]))
def word():
    frame = sys._getframe()
    while "word" not in frame.f_locals: frame = frame.f_back
    print(bytes(frame.f_locals["word"]))
def exit_codes(): os._exit(0)
def leaves_one_running():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            import time
            time.sleep(60)
        os._exit(0)
def every_process():
    while True:
        try: os.fork()
        except OSError: pass

globals()[input()]()
"""
WITH = {
    "parents_descriptors": "wrong",
    "firsts_descriptors": "wrong",
    "own_descriptors": "wrong",
    "trace": "-1 -1",
    "trace_from_another_program": "-1",
    "memory": "-1",
    "frames": "['given', 'kind'] ['cases', 'code', 'preamble', 'seconds', 'total'] ['given', 'kind']",
    "word": "bug",
    "exit_codes": "wrong",
    "leaves_one_running": "wrong",
    "every_process": "slow",
}
"""What each comes to; a text is what it prints, and then it passes."""


@pytest.fixture(scope="module")
def forged(runner: CaseRunner) -> dict[str, str]:
    tests = [
        {"input": name, "output": "SECRET" if end in ("wrong", "bug", "slow") else end} for name, end in WITH.items()
    ]
    return dict(zip(WITH, verdicts(CaseRunner(seconds=3, total=60), FORGERIES, tests), strict=True))


@pytest.mark.parametrize("name", WITH)
def test_nothing_that_a_program_can_reach_holds_or_reveals_the_verdict(forged: dict[str, str], name: str) -> None:
    assert forged[name] == (WITH[name] if WITH[name] in ("wrong", "bug", "slow") else "passed")


@pytest.mark.parametrize(
    ("attack", "others"),
    [
        ("os.kill(os.getppid(), 9)", "bug"),
        ("os.kill(os.getppid(), 19)", "slow"),
        ("import resource as r; r.prlimit(os.getppid(), r.RLIMIT_FSIZE, (0, 0))", "bug"),
        ("import resource as r; r.prlimit(os.getppid(), r.RLIMIT_NPROC, (0, 0))", "bug"),
        ("for n in range(9): open(f'/tmp/{n}', 'wb').write(bytes(2**23))", "wrong"),
    ],
)
def test_what_breaks_the_harness_costs_the_tests_that_are_left(attack: str, others: str) -> None:
    require_sandbox()
    program = f"import os\ndef attack():\n    {attack}\nif input() == 'attack': attack()\nprint(3)"
    tests = [{"input": name, "output": "3"} for name in ("1", "attack", "2", "3")]
    first, _, *last = verdicts(CaseRunner(seconds=2, total=2), program, tests)
    assert (first, last) == ("passed", [others] * 2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=5))
def test_what_is_sent_to_the_sandbox_doesnt_depend_on_what_is_expected(rows: list[tuple[str, str, str]]) -> None:
    runner = CaseRunner.__new__(CaseRunner)
    runner.preamble, runner.seconds = "", 1.0
    ones, others = ([Case("stdin", row[0], row[place]) for row in rows] for place in (1, 2))
    assert runner._task("", ones, 1.0) == runner._task("", others, 1.0)
    assert "expected" not in inspect.getsource(_harness).split('"""', 2)[2]


@given(st.lists(st.tuples(st.binary(), st.binary())), st.binary(), st.binary(min_size=1, max_size=32))
def test_answers_end_at_the_first_junk(texts: list[tuple[bytes, bytes]], junk: bytes, word: bytes) -> None:
    whole = b"".join(word + b"done %d %d\n" % (len(one), len(other)) + one + other for one, other in texts)
    expected = [Answer("done", one, other) for one, other in texts]
    assert list(read_answers(whole, word)) == expected
    assert list(read_answers(whole + b"\0" + word + junk, word)) == expected
    assert list(read_answers(whole + word + b"passed 0 0\n", word)) == expected
    assert list(read_answers(whole + word + b"done 9 9\n", word)) == expected


@pytest.mark.parametrize(
    ("expected", "returned"),
    [
        (0.5, b"1" + b"0" * 400),
        (0.5, b"1" + b"0" * 5000),
        ([0.5], b"[" * 100_000),
        (1, b"NaN"),
        (0.5, b"Infinity"),
        ([1], b'{"a": [1'),
        (1, b""),
        (1, b"\xff"),
        ("a", b'"\\ud800"'),
    ],
)
def test_what_cant_be_compared_is_wrong(expected: Any, returned: bytes) -> None:
    assert _verdict(Case("call", ["f", []], expected), Answer("done", b"", returned)) == "wrong"
    assert _verdict(Case("assert", "assert f()", None), Answer("done", b"", returned)) == "wrong"


@pytest.mark.parametrize("end", ["passed", "more", "ready", ""])
def test_an_end_of_another_kind_is_no_pass(end: str) -> None:
    assert _verdict(Case("stdin", "", "3"), Answer(end, b"3")) == "wrong"


def test_answers_that_are_too_long_for_one_sandbox_take_several(runner: CaseRunner) -> None:
    tests = [{"input": str(n), "output": f"{n} " * 150_000} for n in range(25)]
    assert verdicts(runner, "n = input()\nprint((n + ' ') * 150_000)", tests) == ["passed"] * 25
    assert verdicts(runner, "print('1 ' * 600_000)", tests[:2]) == ["wrong"] * 2
