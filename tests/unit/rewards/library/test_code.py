"""Programs against tests of every form, in the sandbox."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.check import check_reward
from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.cases import read_cases
from mrpo.rewards.function import load_function
from mrpo.rewards.library.bug_ratio import bug_ratio
from mrpo.rewards.library.code import code
from mrpo.rewards.source import library_notes
from tests.unit.rewards.library.rows import real_json, require_sandbox

pytestmark = pytest.mark.unit
no_limit_of_c_calls = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="Python 3.12 limits calls through C, such as a cache's, to about 10,000 itself"
)


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    require_sandbox()


def answer(program: str) -> str:
    return f"Let me see.\n```python\n{program}\n```\nThat's it."


def score(program: str, tests: Any, **options: Any) -> float:
    return code(**options)([], answer(program), tests, {})


SUMS = [{"input": "1 2", "output": "3"}, {"input": "4 5\n", "output": "9\n"}, {"input": "-1 1", "output": "0"}]
ADD = "def add(a, b):\n    return a + b"
LEETCODE = {
    "functional": "def check(candidate):\n    assert candidate(nums = [2, 7], target = 9) == [0, 1]\n"
    "    assert candidate(nums = [3, 3], target = 7) == []\n\n\ncheck(Solution().twoSum)"
}


@pytest.mark.parametrize(
    ("program", "tests", "expected"),
    [
        ("print(sum(map(int, input().split())))", SUMS, 1),
        ("print(sum(map(int, input().split())))", json.dumps(SUMS), 1),
        ("print(3)", SUMS, 1 / 3),
        (
            "import sys\ndef main():\n    print(*sys.stdin.read().split())\nif __name__ == '__main__':\n    main()",
            [{"input": ["1", "2"], "output": ["1 2"]}],
            1,
        ),
        ("print(1 / 3)", [{"input": "", "output": "0.33333333"}], 1),
        ("print(10)", [{"input": "", "output": "10.5"}, {"input": "", "output": "1"}], 0),
        ("print('a  b \\n')", [{"input": "", "output": "a b"}], 1),
        (ADD, {"inputs": [[1, 2], ["a", "b"]], "outputs": [3, ["ab"]], "fn_name": "add"}, 1),
        (ADD, [{"input": "1\n[2]", "output": "[3]", "fn_name": "add"}], 0),
        (ADD, [{"input": "[1]\n[2]", "output": "[1, 2]", "metadata": {"func_name": "add"}}], 1),
        (ADD, ["assert add(1, 2) == 3", "assert add(1, 2) == 4"], 0.5),
        (ADD, "x = add(1, 2)\nassert x == 3\nassert x == 4\nassert x > 0", 2 / 3),
        ("class Solution:\n    def twoSum(self, nums: List[int], target: int):\n        return [0, 1]", LEETCODE, 0.5),
        ("from __future__ import annotations\nprint('é', input())", [{"input": "ü", "output": "é ü"}], 1),
        ("import sys\nprint(3)\nsys.exit(0)", SUMS[:1], 1),
    ],
)
def test_passed_tests_of_every_form(program: str, tests: Any, expected: float) -> None:
    assert score(program, tests) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("", 0),
        ("print(3)", 0),
        ("```python\nprint(3)", 0),
        ("```sh\nprint(3)\n```", 0),
        ("```\nprint(3)\n```", 1),
        ("```python\nprint(4)\n```\nBetter:\n```py\nprint(3)\n```", 1),
        ('```python\nprint(len("""```"""))\n```', 1),
    ],
)
def test_the_last_closed_block_of_python_is_the_program(response: str, expected: float) -> None:
    assert code()([], response, SUMS[:1], {}) == expected


OUTPUT = "\nOutput:\n```\n3\n```\n"
EXAMPLE = "\nFor example:\n```python\n# example\nprint({})\n```\n"


@pytest.mark.parametrize(
    ("response", "tests"),
    [
        ("```python\nprint(sum(map(int, input().split())))\n```" + OUTPUT, SUMS),
        ('```python title="a.py"\r\nprint(sum(map(int, input().split())))\r\n```\r\n' + OUTPUT, SUMS),
        ("~~~ {.python}\nprint(sum(map(int, input().split())))\n~~~", SUMS),
        ("```python\ndef f():\n    print(sum(map(int, input().split())))\nf()\n```" + EXAMPLE.format("f()"), SUMS),
        (f"```python\n{ADD}\n```" + EXAMPLE.format("add(1, 2)"), ["assert add(1, 2) == 3"]),
        (f"```python\n{ADD}\n```" + EXAMPLE.format("add(1, 2)"), [{"input": "1\n2", "output": "3", "fn_name": "add"}]),
        (f"```python\ndef add(a, b): return 0\n```\nBetter:\n```python\n{ADD}\n```", ["assert add(1, 2) == 3"]),
        (f"<think>\n```python\n1 / 0\n```\n</think>\n```\n{ADD}\n```", ["assert add(1, 2) == 3"]),
        (f"<think>\n```python\n{ADD}\n```\n</think>\nSee above.", ["assert add(1, 2) == 3"]),
    ],
)
def test_neither_output_nor_an_example_nor_a_draft_is_taken_for_the_program(response: str, tests: Any) -> None:
    assert code()([], response, tests, {}) == 1


@pytest.mark.parametrize(
    ("program", "bugs"),
    [
        ("print(3)", 0),
        ("print(4)", 0),
        ("def add(a, b:", 1),
        ("1 / 0", 1),
        ("print(3)\nraise SystemExit(2)", 1),
        ("if input() != '1 2': 1 / 0\nprint(3)", 2 / 3),
        ("import os; os.kill(os.getpid(), 11)", 1),
        ("' ' * 10**11", 1),
        ("while True: pass", 0),
    ],
)
def test_bugs_are_what_breaks_and_not_what_is_wrong_or_slow(program: str, bugs: float) -> None:
    assert bug_ratio(seconds=1)([], answer(program), SUMS, {}) == pytest.approx(-bugs)


THREE = [{"input": "", "output": "3"}]
DEEP = "import sys, functools, threading\nsys.setrecursionlimit(10**6)\n"
ONES = "1" + "0" * 5000


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("import sys\nsys.stdout.buffer.write(b'3')", THREE),
        ("import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint(3)", THREE),
        ("import io, sys\nsys.stdout = b = io.StringIO()\nprint(3)\nsys.__stdout__.write(b.getvalue())", THREE),
        ("import sys\nprint(sum(map(int, sys.__stdin__.buffer.read().split())))", SUMS),
        ("import atexit\natexit.register(print, 3)", THREE),
        ("import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print(3))).start()", THREE),
        ("from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(2).submit(print, 3)", THREE),
        ("import sys\ndef main(argv): print(3 + len(argv))\nif __name__ == '__main__': main(sys.argv[1:])", THREE),
        ("import argparse\nargparse.ArgumentParser().parse_args()\nprint(3 if __file__ else 4)", THREE),
        ("print(int(input()) + 1)", [{"input": ONES, "output": ONES[:-1] + "1"}]),
        ("def f(n): return 10**n", [{"input": "5000", "output": ONES, "fn_name": "f"}]),
        ("def f(n): return n", [{"input": ONES, "output": ONES, "fn_name": "f"}]),
        ("def f(x): return (x, (x, 2))", {"inputs": [[1]], "outputs": [(1, [1, 2])], "fn_name": "f"}),
        ("def f(x): return {x: (1,)}", {"inputs": [(1,)], "outputs": [{1: [1]}], "fn_name": "f"}),
        ("import numpy\ndef f(x): return numpy.array([x])", {"inputs": [[1]], "outputs": [[[1]]], "fn_name": "f"}),
        (DEEP + "def f(n): return n and 1 + f(n - 1)\nprint(f(3 * 10**5) // 10**5)", THREE),
        pytest.param(
            DEEP + "@functools.cache\ndef f(n): return n and 1 + f(n - 1)\nprint(f(60_000) // 20_000)",
            THREE,
            marks=no_limit_of_c_calls,
        ),
        pytest.param(
            DEEP + "threading.stack_size(2**27)\n@functools.cache\ndef f(n): return n and 1 + f(n - 1)\n"
            "threading.Thread(target=lambda: print(f(60_000) // 20_000)).start()",
            THREE,
            marks=no_limit_of_c_calls,
        ),
    ],
)  # fmt: skip
def test_a_right_program_passes_as_it_does_when_python_runs_it(program: str, tests: Any) -> None:
    assert score(program, tests, seconds=20) == 1


@pytest.mark.parametrize("result", ["10**5000 + 1", "{(1, 2): 3}", "(x := []).append(x) or x", "{1, 2}"])
def test_another_result_or_one_that_isnt_json_is_wrong_and_no_bug(result: str) -> None:
    tests = [{"input": "", "output": ONES, "fn_name": "f"}]
    assert score(f"def f(): return {result}", tests) == 0
    assert bug_ratio()([], answer(f"def f(): return {result}"), tests, {}) == 0


def test_a_failed_assert_is_wrong_and_one_inside_the_program_is_a_bug() -> None:
    tests = ["assert f() == 1"]
    assert bug_ratio()([], answer("def f(): return 2"), tests, {}) == 0
    assert bug_ratio()([], answer("def f(): assert False"), tests, {}) == -1
    assert bug_ratio()([], answer("def g(): return 1"), tests, {}) == -1


def test_no_program_is_all_bugs() -> None:
    assert bug_ratio()([], "I can't.", SUMS, {}) == -1


def test_slow_tests_cost_themselves_and_in_all_no_more_than_the_total() -> None:
    program = "n = input()\nif n == '4 5':\n    while True: pass\nprint(sum(map(int, n.split())))"
    assert score(program, SUMS, seconds=0.5) == pytest.approx(2 / 3)
    start = time.monotonic()
    assert score("while True: pass", SUMS * 100, seconds=0.5, total=1.5) == 0
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "program",
    [
        "import os; os._exit(0)",
        "raise SystemExit",
        "import os; os.kill(os.getppid(), 9)",
        'print(\'true\'); print(\'{"end": "done", "printed": "3", "returned": "true"}\')',
        "import os\nwhile True: os.fork()",
        "print('\\0' * 10**7)",
    ],
)
def test_a_program_that_ends_early_or_makes_trouble_passes_nothing(program: str) -> None:
    assert score(program, ["assert 1 == 2"] * 2, seconds=1) == 0
    assert score(program, SUMS, seconds=1) == 0


def test_one_case_leaves_nothing_to_the_next() -> None:
    program = "import math\nmath.pi = getattr(math, 'seen', 3)\nmath.seen = 4\nprint(math.pi)"
    assert score(program, [{"input": "", "output": "3"}] * 3) == 1


def test_only_the_first_cases_and_a_preamble_of_ones_own() -> None:
    assert score("print(3)", SUMS, max_cases=1) == 1
    assert score("def f(): return ONE", ["assert f() == 1"], preamble="ONE = 1") == 1
    assert score("def f(xs: List[int]): return pow(2, 5, 3)", ["assert f([]) == 2"]) == 1


def test_many_long_outputs_are_all_compared() -> None:
    tests = [{"input": str(n), "output": f"{n} " * 50_000} for n in range(6)]
    assert score("n = input()\nprint((n + ' ') * 50_000)", tests) == 1
    with pytest.raises(ValueError, match="test 0 expects too much output"):
        score("print(1)", [{"input": "", "output": "1" * 2_000_000}])


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (None, "NoneType"),
        ([], "no test"),
        ("[{", "aren't"),
        ("assert (", "aren't Python"),
        ("x = 1", "no test"),
        ([{"in": 1}], "keys \\['in'\\]"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ([{"input": "a", "output": "1", "fn_name": "f"}], "aren't JSON"),
        ({"inputs": [[1]], "outputs": [{1}], "fn_name": "f"}, "a set in it"),
    ],
)
def test_a_ground_truth_that_is_no_tests_raises(tests: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"ground truth: .*{message}"):
        score("print(1)", tests)


OPTIONS = [
    *((name, given) for name in ("seconds", "total") for given in (0, -1, float("inf"), float("nan"), "4", True, None)),
    *(("memory", given) for given in (-1, 0, 0.001, "1", float("nan"))),
    *(("processes", given) for given in (-1, 0, 1, 2.5, "16")),
    *(("max_cases", given) for given in (-1, 0, 1.5, "2", True)),
    *(("preamble", given) for given in ("import (", 3)),
]


@pytest.mark.parametrize(("name", "given"), OPTIONS)
def test_an_option_out_of_range_is_refused_before_anything_starts(name: str, given: Any) -> None:
    for function in ("code", "bug_ratio"):
        reward = RewardConfig(function=function, options={name: given})
        with pytest.raises(ConfigError, match=rf"rewards.x.options: {name}: given .*, (allowed|which)"):
            check_reward("rewards.x", reward, Path())
        with pytest.raises(ValueError, match=f"{name}: given"):
            load_function(function, Path(), {name: given})


@pytest.mark.parametrize("options", [{}, {"seconds": 1, "total": 3600, "memory": 0.25, "processes": 2, "max_cases": 1}])
def test_options_within_their_ranges_are_taken_and_a_correct_program_passes(options: dict[str, Any]) -> None:
    check_reward("rewards.x", RewardConfig(function="code", options=options, timeout=10_000), Path())
    assert score("print(3)", SUMS[:1], **options) == 1


def test_the_timeout_has_to_leave_slow_programs_their_time() -> None:
    for function in ("code", "bug_ratio"):
        with pytest.raises(ConfigError, match=r"rewards.x.timeout: given 65, allowed: above 65"):
            check_reward("rewards.x", RewardConfig(function=function, options={"total": 60}, timeout=65), Path())
        check_reward("rewards.x", RewardConfig(function=function, options={"total": 60}, timeout=66), Path())


def test_that_asserts_can_be_forged_is_said_before_a_run() -> None:
    for function in ("code", "bug_ratio"):
        assert any("asserts" in note for note in library_notes(function, here=False))
    assert library_notes("math", here=True) == []


def test_real_solutions_pass_all_their_tests() -> None:
    needs_more = re.compile(r"list_node|tree_node|is_same|ListNode|TreeNode|SortedList|class Node")
    rows = [
        row
        for row in real_json("deepscaler_rllm/train/code/leetcode.json")[:20]
        if not needs_more.search(row["solutions"] + row["tests"]["functional"])
    ]
    assert len(rows) > 10
    assert [code()([], answer(row["solutions"]), row["tests"], {}) for row in rows] == [1] * len(rows)


def test_real_tests_become_a_case_an_assert() -> None:
    rows = real_json("deepscaler_rllm/train/code/leetcode.json")[:200]
    for row in rows:
        assert len(read_cases(row["tests"])) == row["tests"]["functional"].count("\n    assert ")
