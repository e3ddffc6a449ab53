"""Run a response's code against a problem's cases, in the sandbox, and say how each went."""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mrpo.rewards.cases import Case, any_digits, read_cases
from mrpo.rewards.library import _harness
from mrpo.rewards.library._program import program_of
from mrpo.rewards.outcome import RewardError
from mrpo.rewards.sandbox import Limits, SandboxError, execute, weaknesses

logger = logging.getLogger(__name__)

Verdict = Literal["passed", "wrong", "bug", "slow"]
"""``bug``: it doesn't compile, raises, exits with an error code or is killed; ``slow``: it was stopped."""

PREAMBLE = """from typing import *
import bisect, collections, functools, heapq, itertools, math, operator, random, re, string
from bisect import *; from collections import *; from functools import *; from heapq import *
from itertools import *; from math import *; from operator import xor
from builtins import *
"""
"""What LeetCode has imported already; the last line since math has a pow of its own."""
TOLERANCE = 1e-6
"""Relative, between numbers where the expected one has a point or an exponent."""
MAX_EXPECTED = _harness.MAX_TEXT // 2
"""Bytes, as JSON, of what a test may expect. A program may write it in twice as many."""
TOTAL = 30.0
"""Seconds, unless the option ``total`` says otherwise."""
MAX_DIGITS = 4000
"""Of an integer that is converted; a longer one is compared as text."""
GRACE = 5.0
"""Seconds that the harness may take besides ``total``, before the sandbox is killed."""
HARNESS = Path(_harness.__file__).read_text(encoding="utf-8")
ANSWER = re.compile(rb"(ready|done|wrong|bug|slow|more) (\d+) (\d+)\n")


RANGES = {"seconds": (0.01, 3600), "total": (0.01, 86_400), "memory": (0.0625, 4096), "processes": (2, 4096)}
"""Smallest and largest of each option. Python needs the memory to start, and two processes are ours."""


def check_options(**options: Any) -> None:
    """
    Raises:
        TypeError: there is no such option.
        ValueError: one is out of its range, or of another type.
    """
    inspect.signature(CaseRunner).bind(**options)
    for name, (low, high) in RANGES.items():
        given, kinds = options.get(name, low), int if name == "processes" else int | float
        if isinstance(given, bool) or not isinstance(given, kinds) or not low <= given <= high:
            whole = "a whole number" if kinds is int else "a number"
            raise ValueError(f"{name}: given {given!r}, allowed: {whole} from {low:g} to {high:g}")
    cases = options.get("max_cases")
    if cases is not None and (isinstance(cases, bool) or not isinstance(cases, int) or cases < 1):
        raise ValueError(f"max_cases: given {cases!r}, allowed: a whole number from 1, or null for all")
    preamble = options.get("preamble", "")
    try:
        compile(preamble, "<preamble>", "exec")
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"preamble: given {str(preamble)[:60]!r}, which isn't Python: {error}") from None


def seconds_of(**options: Any) -> float:
    """The longest that a response's program may take."""
    return float(options.get("total", TOTAL)) + GRACE


def notes(here: bool) -> list[str]:
    """What a user should know before a run, ``here``: on this machine."""
    found = [
        "tests that are asserts, unlike inputs and outputs, run beside the program, which can pass them without solving"
        " anything"
    ]
    if here:
        try:
            found += [f"the sandbox here is weaker than elsewhere: {weakness}" for weakness in weaknesses()]
        except SandboxError as error:
            found.append(str(error))
    return found


class CaseRunner:
    """Runs cases. As the base of a reward it takes its options.

    Args:
        seconds: that a case may take.
        total: seconds that all cases of a response may take together; what is left then counts as slow. The reward's
            ``timeout`` has to be GRACE above it, so that slow code is a low score and not a failure.
        memory: GiB that the code may use in all, and each of its processes address. Where no memory control group can
            be made, which is said before a run starts, only the latter.
        processes: processes and threads that the code may have, two of them ours.
        max_cases: run only so many cases, the first ones.
        preamble: code run before the response's where functions are called or asserted about; whole programs get none.

    Raises:
        ValueError: an option is out of range.
        SandboxError: no sandbox works here.
    """

    def __init__(
        self,
        *,
        seconds: float = 4.0,
        total: float = TOTAL,
        memory: float = 1.0,
        processes: int = 16,
        max_cases: int | None = None,
        preamble: str = PREAMBLE,
    ):
        check_options(
            seconds=seconds,
            total=total,
            memory=memory,
            processes=processes,
            max_cases=max_cases,
            preamble=preamble,
        )
        self.seconds, self.total, self.memory, self.processes = seconds, total, memory, processes
        self.max_cases, self.preamble = max_cases, preamble
        for weakness in weaknesses():  # raises where there is no sandbox
            logger.warning("the sandbox here is weaker than elsewhere: %s", weakness)

    @any_digits()
    def verdicts(self, response: str, ground_truth: Any) -> list[Verdict] | None:
        """One verdict a case; None: there is no closed Markdown block of Python code in the response.

        Raises:
            ValueError: the ground truth isn't tests.
            RewardError: ``sandbox``: it couldn't be started.
        """
        cases = read_cases(ground_truth)[: self.max_cases]
        for place, case in enumerate(cases):
            if len(json.dumps(case.expected)) > MAX_EXPECTED:
                raise ValueError(f"ground truth: test {place} expects too much output; allowed: {MAX_EXPECTED} bytes")
        code = program_of(response, cases)
        if code is None:
            return None
        end = time.monotonic() + self.total
        verdicts: list[Verdict] = []
        while len(verdicts) < len(cases):
            verdicts += self._run(code, cases[len(verdicts) :], max(0.0, end - time.monotonic()))
        return verdicts

    def _run(self, code: str, cases: Sequence[Case], total: float) -> list[Verdict]:
        """The verdicts of the first cases, one or more: as many as a sandbox's answers may hold."""
        task = json.dumps(self._task(code, cases, total)).encode()
        limits = Limits(total + GRACE, self.memory, self.processes, 2 * _harness.MAX_ANSWERS)
        word = secrets.token_hex(_harness.WORD // 2).encode()
        try:
            ended = execute(HARNESS, task, limits, secret=word)
        except SandboxError as error:
            raise RewardError("sandbox", str(error)) from error
        answers = list(read_answers(ended.stdout, word))
        if answers[:1] != [Answer("ready")]:
            said = ended.stderr.decode("utf-8", "replace").strip()[-300:]
            raise RewardError("sandbox", f"the program was never started: {said or 'it took too long'}")
        verdicts = [
            _verdict(case, answer) for case, answer in zip(cases, answers[1:], strict=False) if answer.end != "more"
        ]
        if verdicts and answers[-1].end == "more":
            return verdicts
        lost: Verdict = "slow" if ended.timed_out else "bug"
        return verdicts + [lost] * (len(cases) - len(verdicts))

    def _task(self, code: str, cases: Sequence[Case], total: float) -> dict[str, Any]:
        """What the sandbox gets, and the program can see: nothing of what is expected, nor a number made of it."""
        listed = [{"kind": case.kind, "given": case.given} for case in cases]
        return {"code": code, "preamble": self.preamble, "cases": listed, "seconds": self.seconds, "total": total}


class Answer(NamedTuple):
    """A message of the harness."""

    end: str
    printed: bytes = b""
    returned: bytes = b""


def read_answers(output: bytes, word: bytes) -> Iterator[Answer]:
    """The harness's messages, up to the first thing in ``output`` that doesn't begin with ``word`` or isn't one."""
    place = 0
    while output.startswith(word, place) and (line := ANSWER.match(output, place + len(word))):
        middle = line.end() + int(line[2])
        place = middle + int(line[3])
        if place > len(output):
            return
        yield Answer(line[1].decode(), output[line.end() : middle], output[middle:place])


def _verdict(case: Case, answer: Answer) -> Verdict:
    if answer.end in ("wrong", "bug", "slow"):
        return answer.end  # type: ignore[return-value]
    try:
        return "passed" if answer.end == "done" and _passes(case, answer) else "wrong"
    except (ValueError, RecursionError, OverflowError):  # what it returned isn't JSON, or no number to compare with
        return "wrong"


def _passes(case: Case, answer: Answer) -> bool:
    if case.kind == "stdin":
        return _same_text(case.expected, answer.printed.decode("utf-8", "replace"))
    returned = json.loads(answer.returned, parse_int=_whole)
    if case.kind == "assert":
        return returned is True
    wrapped = isinstance(case.expected, list) and len(case.expected) == 1  # as APPS has results
    return _same(case.expected, returned) or (wrapped and _same(case.expected[0], returned))


def _same_text(expected: str, printed: str) -> bool:
    """The same lines of the same words, apart from whitespace and rounding."""
    lines, others = ([line.split() for line in text.strip().splitlines()] for text in (expected, printed))
    return len(lines) == len(others) and all(
        len(line) == len(other) and all(_same_word(*pair) for pair in zip(line, other, strict=True))
        for line, other in zip(lines, others, strict=True)
    )


def _same_word(expected: str, printed: str) -> bool:
    if expected == printed:
        return True
    if not any(mark in expected for mark in ".eE"):
        return False
    try:
        return math.isclose(float(expected), float(printed), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except ValueError:
        return False


def _same(expected: Any, returned: Any) -> bool:
    if isinstance(expected, list) and isinstance(returned, list):
        return len(expected) == len(returned) and all(map(_same, expected, returned))
    if isinstance(expected, float) and isinstance(returned, int | float):
        return math.isclose(expected, returned, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(returned, _Digits):
        return isinstance(expected, int) and str(expected) == returned
    return bool(expected == returned)


class _Digits(str):
    """A returned integer that is too long to convert in no time."""


def _whole(digits: str) -> int | _Digits:
    return int(digits) if len(digits) <= MAX_DIGITS else _Digits(digits)
