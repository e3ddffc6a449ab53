"""What the benchmarks count, which the library doesn't have: right or wrong, where more than one answer may be right.

BFCL accepts several values for a parameter, and leaves some parameters out; API-Bank wants one call, and doesn't mind
others beside it. The library's ``tool_call`` compares with one answer and is what trains; this one only watches.
"""

from __future__ import annotations

import json
import re
from typing import Any

from scipy.optimize import linear_sum_assignment

from mrpo.rewards.rlla import Call, calls_of


def accuracy(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float | None:
    """1 if the benchmark that the row is from counts the response as right, else 0; None if it is from none."""
    benchmark = str(extra["data_source"]).partition("/")[0]
    if benchmark not in ("bfcl", "api_bank"):
        return None
    try:
        called = calls_of(response)
    except ValueError:
        called = []
    if benchmark == "api_bank":
        return float(calls_of(ground_truth)[0] in called)
    return float(is_accepted(called, json.loads(extra["accepts"])))


def is_accepted(called: list[Call], wanted: list[dict[str, Any]]) -> bool:
    """BFCL's syntactic check: as many calls as wanted, in any order, each one accepted. Nothing wanted: no call.

    BFCL also wants a whole number where the tool does; here 2.0 is 2.
    """
    if len(called) != len(wanted):
        return False
    fits = [[_call_fits(call, one) for call in called] for one in wanted]
    if not fits:
        return True
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return all(fits[row][column] for row, column in zip(rows, columns, strict=True))


def _call_fits(call: Call, wanted: dict[str, Any]) -> bool:
    parameters = wanted["parameters"]
    if call.name != wanted["name"] or not call.parameters.keys() <= parameters.keys():
        return False
    return all(
        _is_option(call.parameters[key], one["options"]) if key in call.parameters else not one["must"]
        for key, one in parameters.items()
    )


def _is_option(value: Any, options: list[Any]) -> bool:
    return any(_same(value, option) for option in options)


def _same(value: Any, option: Any) -> bool:
    """Whether ``value`` is ``option``, in which an object holds a list of options for each of its keys."""
    if isinstance(option, dict):
        if not isinstance(value, dict) or not value.keys() <= option.keys():
            return False
        return all(_is_option(value[key], o) if key in value else "" in o for key, o in option.items())
    if isinstance(option, list):
        return isinstance(value, list) and len(value) == len(option) and all(map(_same, value, option))
    if isinstance(option, str):
        return isinstance(value, str) and _bare(value) == _bare(option)
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)


def _bare(text: str) -> str:
    """BFCL compares texts without case, spaces and ``,./-_*^``, and with one kind of quotes."""
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
