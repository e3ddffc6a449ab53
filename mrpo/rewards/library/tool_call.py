"""How far the response's tool calls are those of the ground truth: ToolRL's correctness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from scipy.optimize import linear_sum_assignment

from mrpo.rewards.rlla import Call, calls_of, check_dialect, fields_of, wanted_calls

LOW, HIGH = -3.0, 3.0


def bounds(*, dialect: str = "toolrl") -> tuple[float, float]:
    check_dialect(dialect)
    return LOW, HIGH


def tool_call(
    prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any], *, dialect: str = "toolrl"
) -> float | None:
    """6 R/S - 3, in [-3, 3], with the match R of the called tools P and the wanted ones G (ToolRL, arXiv 2504.13958,
    section 3.3):

        R = r_name + max over matchings of P to G of sum (r_param + r_value),   S = 1 + |G| + sum_g |keys(g)|
        r_name  = |names(G) ∩ names(P)| / |names(G) ∪ names(P)|
        r_param = |keys(g) ∩ keys(p)| / |keys(g) ∪ keys(p)|, 1 if neither has any
        r_value = how many keys of g have the same value in p

    for each pair (g, p) of the same name; a wanted call without a partner adds 0. -3 for a response whose calls can't
    be read. None, not applicable, where the ground truth calls no tool.

    Where ToolRL's released code and the paper differ: names are multisets as in the code, so that calling a tool once
    too often costs (as sets, the paper's word, it would be free); the matching is the best one, as in the paper, while
    the code takes partners one by one, so its score can depend on the order; not applicable instead of the code's
    constant 0. Beyond both, ``true`` isn't 1, blank lines don't count, and a ``<tool_call>`` within the thought is
    thought.

    Args:
        dialect: how the response writes its calls (``mrpo.rewards.rlla``): ``toolrl``, the paper's, ``hermes`` or
            ``any``. With the last two the ground truth may be in any dialect, else it has to be in the paper's.

    Raises:
        ValueError: the ground truth isn't a text in RLLA's format, or a call in it can't be read.
    """
    if "tool_call" not in fields_of(ground_truth):
        return None
    check_dialect(dialect)
    wanted = wanted_calls(ground_truth, dialect)
    try:
        called = calls_of(response, dialect)
    except ValueError:
        return LOW
    names = {call.name for call in wanted}
    matched = sum(_matched([g for g in wanted if g.name == n], [p for p in called if p.name == n]) for n in names)
    maximum = 1 + sum(1 + len(call.parameters) for call in wanted)
    share = (_jaccard((call.name for call in wanted), (call.name for call in called)) + matched) / maximum
    return LOW + (HIGH - LOW) * share


def _jaccard(first: Iterable[str], second: Iterable[str]) -> float:
    """Size of the intersection over that of the union, as multisets; 1 if both are empty."""
    a, b = Counter(iter(first)), Counter(iter(second))  # of a mapping, Counter would take the values for counts
    union = (a | b).total()
    return (a & b).total() / union if union else 1.0


def _pair(wanted: Call, called: Call) -> float:
    same = sum(
        key in called.parameters and _same(value, called.parameters[key]) for key, value in wanted.parameters.items()
    )
    return _jaccard(wanted.parameters, called.parameters) + same


def _same(first: Any, second: Any) -> bool:
    return bool(first == second) and isinstance(first, bool) == isinstance(second, bool)


def _matched(wanted: Sequence[Call], called: Sequence[Call]) -> float:
    """What the best matching of calls of one tool is worth."""
    if not called:
        return 0.0
    worth = [[_pair(g, p) for p in called] for g in wanted]
    if len(wanted) == 1:
        return max(worth[0])
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return sum(worth[row][column] for row, column in zip(rows, columns, strict=True))
