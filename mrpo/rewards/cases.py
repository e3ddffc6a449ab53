"""The tests of a coding problem, from the forms that data sets have them in.

| form | as in |
|---|---|
| ``[{"input": …, "output": …}, …]``, perhaps with ``fn_name`` or ``metadata.func_name`` | DeepCoder, LiveCodeBench |
| ``{"inputs": […], "outputs": […]}``, perhaps with ``fn_name`` | APPS, TACO |
| ``{"functional": "def check(candidate): …"}`` | rLLM's LeetCode |
| code with asserts, or a list of asserts | MBPP, HumanEval |

or the same as JSON text. Without ``fn_name`` an input is what the program reads and an output what it prints; with it,
they are a function's arguments and result. Code becomes one case an assert.
"""

from __future__ import annotations

import ast
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple


class Case(NamedTuple):
    """``given``: what the program reads; or function name and arguments; or code that asserts."""

    kind: Literal["stdin", "call", "assert"]
    given: Any
    expected: Any = None


@contextlib.contextmanager
def any_digits() -> Iterator[None]:
    """Have Python convert integers of any length to text and back, which it refuses beyond 4300 digits."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


@any_digits()
def read_cases(ground_truth: Any) -> list[Case]:
    """
    Raises:
        ValueError: ``ground_truth`` has none of the forms, or no test in it.
    """
    if hasattr(ground_truth, "tolist"):
        ground_truth = ground_truth.tolist()
    if isinstance(ground_truth, str) and ground_truth.lstrip().startswith(("[", "{")):
        try:
            ground_truth = json.loads(ground_truth)
        except ValueError as error:
            raise ValueError(f"ground truth: tests that begin like JSON and aren't: {error}") from None
    cases = _cases(ground_truth)
    if not cases:
        raise ValueError("ground truth: no test in it")
    return cases


def _cases(tests: Any) -> list[Case]:
    if isinstance(tests, str):
        return _asserts(tests)
    if isinstance(tests, list | tuple):
        return [case for test in tests for case in _cases(test)]
    if isinstance(tests, dict):
        if tests.get("functional") is not None:
            return _asserts(tests["functional"])
        function = tests.get("fn_name") or (tests.get("metadata") or {}).get("func_name")
        if tests.get("inputs") is not None and tests.get("outputs") is not None:
            inputs, outputs = list(tests["inputs"]), list(tests["outputs"])
            if len(inputs) != len(outputs):
                raise ValueError(f"ground truth: {len(inputs)} inputs and {len(outputs)} outputs")
            return [_case(function, i, o) for i, o in zip(inputs, outputs, strict=True)]
        if "input" in tests and "output" in tests:
            return [_case(function, tests["input"], tests["output"])]
    found = f"keys {sorted(tests)}" if isinstance(tests, dict) else f"{type(tests).__name__}"
    raise ValueError(f"ground truth: tests with {found}, allowed: input and output, inputs and outputs, functional")


def _case(function: str | None, given: Any, expected: Any) -> Case:
    if not function:
        return Case("stdin", _text(given), _text(expected))
    if isinstance(given, str):  # an argument a line, as JSON
        try:
            given = [json.loads(line) for line in given.splitlines() if line.strip()]
            expected = json.loads(expected) if isinstance(expected, str) else expected
        except ValueError:
            raise ValueError(f"ground truth: arguments and result of {function} that aren't JSON") from None
    try:  # as a result arrives, which is sent as JSON: tuples become lists, all keys texts
        given, expected = json.loads(json.dumps([list(given), expected], default=_plain))
    except (TypeError, ValueError) as error:
        raise ValueError(f"ground truth: arguments and result of {function} that can't be JSON: {error}") from None
    return Case("call", [function, given], expected)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} in it")


def _text(lines: Any) -> str:
    return "\n".join(map(str, lines)) if isinstance(lines, list | tuple) else str(lines)


def _asserts(source: str) -> list[Case]:
    """A case for each assert at top level, or in a function there: the source without the other asserts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"ground truth: tests that aren't Python: {error}") from None
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.FunctionDef))]
    whole = [list(body) for body in bodies]
    cases = []
    for statement in (s for body in whole for s in body if isinstance(s, ast.Assert)):
        for body, statements in zip(bodies, whole, strict=True):
            body[:] = [s for s in statements if s is statement or not isinstance(s, ast.Assert)] or [ast.Pass()]
        cases.append(Case("assert", ast.unparse(tree)))
    return cases
