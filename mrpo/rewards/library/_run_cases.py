"""Run a response's code against a problem's cases, in the sandbox, and say how each went."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mrpo.rewards.cases import Case, read_cases
from mrpo.rewards.library._text import fenced
from mrpo.rewards.outcome import RewardError
from mrpo.rewards.sandbox import OUTPUT, SandboxError, find_sandbox, run

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
OVERHEAD = 1000
"""Bytes that a case's answer may take beyond twice what is expected."""


class CaseRunner:
    """Runs cases. As the base of a reward it takes its options.

    Args:
        seconds: that a case may take.
        total: seconds that all cases of a response may take together; what is left then counts as slow. It has to be
            below the reward's ``timeout``, so that slow code is a low score and not a failure.
        memory: GiB that each of the code's processes may address.
        processes: processes and threads that the code may have, two of them ours.
        max_cases: run only so many cases, the first ones.
        preamble: code run before the response's where functions are called or asserted about; whole programs get none.

    Raises:
        SandboxError: no sandbox works here.
    """

    def __init__(
        self,
        *,
        seconds: float = 4.0,
        total: float = 30.0,
        memory: float = 1.0,
        processes: int = 16,
        max_cases: int | None = None,
        preamble: str = PREAMBLE,
    ):
        self.seconds, self.total, self.memory, self.processes = seconds, total, memory, processes
        self.max_cases, self.preamble = max_cases, preamble
        self.harness = Path(__file__).with_name("_harness.py").read_text()
        find_sandbox()  # or says at once why there is none

    def verdicts(self, response: str, ground_truth: Any) -> list[Verdict] | None:
        """One verdict a case; None: there is no closed Markdown block of Python code in the response.

        Raises:
            ValueError: the ground truth isn't tests.
            RewardError: ``sandbox``: it couldn't be started.
        """
        cases = read_cases(ground_truth)[: self.max_cases]
        code = fenced(response, ("python", "python3", "py", ""))
        if code is None:
            return None
        end = time.monotonic() + self.total
        verdicts: list[Verdict] = []
        for batch in list(_batches(cases)):
            verdicts += self._run(code, batch, max(0.0, end - time.monotonic()))
        return verdicts

    def _run(self, code: str, cases: Sequence[Case], total: float) -> list[Verdict]:
        listed = [{"kind": case.kind, "given": case.given, "max_bytes": _max_bytes(case)} for case in cases]
        task = {"code": code, "preamble": self.preamble, "cases": listed, "seconds": self.seconds, "total": total}
        limits = {"seconds": total + self.seconds, "memory_gib": self.memory, "processes": self.processes}
        try:
            result = run(self.harness, json.dumps(task), **limits)  # type: ignore[arg-type]
        except SandboxError as error:
            raise RewardError("sandbox", str(error)) from error
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.endswith("}")]
        lost: Verdict = "slow" if result.timed_out else "bug"
        verdicts = [_verdict(case, answer) for case, answer in zip(cases, answers, strict=False)]
        return verdicts + [lost] * (len(cases) - len(verdicts))


def _verdict(case: Case, answer: dict[str, str]) -> Verdict:
    if answer["end"] != "done":
        return answer["end"]  # type: ignore[return-value]
    if case.kind == "stdin":
        return "passed" if _same_text(case.expected, answer["printed"]) else "wrong"
    try:
        returned = json.loads(answer["returned"])
    except (ValueError, RecursionError):  # it exited before it returned, or returned much more than is expected
        return "wrong"
    if case.kind == "assert":
        return "passed" if returned is True else "wrong"
    wrapped = isinstance(case.expected, list) and len(case.expected) == 1  # as APPS has results
    same = _same(case.expected, returned) or (wrapped and _same(case.expected[0], returned))
    return "passed" if same else "wrong"


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """Cases in runs whose answers fit into what the sandbox returns."""
    start = size = 0
    for place, case in enumerate(cases):
        max_bytes = _max_bytes(case)
        if max_bytes > OUTPUT:
            raise ValueError(f"ground truth: test {place} expects too much output; allowed: {OUTPUT // 2} bytes")
        if size + max_bytes > OUTPUT:
            yield cases[start:place]
            start, size = place, 0
        size += max_bytes
    yield cases[start:]


def _max_bytes(case: Case) -> int:
    """Bytes of answer that are looked at. A longer one can't be what is expected."""
    return len(json.dumps(case.expected)) * 2 + OVERHEAD


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
    return bool(expected == returned)
