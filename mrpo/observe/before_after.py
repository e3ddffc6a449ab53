"""What training changed, by the run's first and last validation: each reward, and a few responses side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mrpo.record.jsonl import Record
from mrpo.record.run_folder import RunFolder

if TYPE_CHECKING:
    from mrpo.evaluation.compare import Line
    from mrpo.evaluation.statistics import Interval

PROMPTS = 6


class Pair(NamedTuple):
    """The responses of two validations to one prompt."""

    first: Record
    last: Record


class BeforeAfter(NamedTuple):
    """Two validations of the same prompts."""

    first_step: int
    last_step: int
    lines: list[Line]
    """Of the last, each measure with its difference to the first."""
    before: list[Line]
    pairs: list[Pair]


def before_after(folder: RunFolder) -> BeforeAfter | None:
    """None where there aren't two validations of the same prompts.

    The prompts to show are the first by uid, which is a hash: chosen by nobody, and the same for every run on the data.

    Raises:
        CorruptLineError: a complete line of a validation's file is broken.
    """
    from mrpo.evaluation.compare import LENGTH, compare  # imports numpy, which a display doesn't need

    steps = folder.validation_steps()
    if len(steps) < 2:
        return None
    first, last = folder.read_validation(steps[0]), folder.read_validation(steps[-1])
    uids = sorted({row["uid"] for row in first})
    if not first or uids != sorted({row["uid"] for row in last}):
        return None
    names = list(dict.fromkeys(name for row in (*first, *last) for name in row["rewards"]))
    lines = compare({"first": first, "last": last}, dict.fromkeys(names), max_response_length=0)
    shown = [line for line in lines if line.measure in (*names, LENGTH)]  # not what depends on the maximum length
    return BeforeAfter(
        steps[0],
        steps[-1],
        lines=[line for line in shown if line.model == "last"],
        before=[line for line in shown if line.model == "first"],
        pairs=[Pair(_of(first, uid), _of(last, uid)) for uid in uids[:PROMPTS]],
    )


def _of(rows: list[Record], uid: str) -> Record:
    return next(row for row in rows if row["uid"] == uid)


def page_values(found: BeforeAfter | None) -> dict[str, Any] | None:
    """What the page's template needs of it."""
    if found is None:
        return None
    sources = {line.data_source for line in found.lines}
    rows = [
        {
            "measure": after.measure if len(sources) == 1 else f"{after.data_source}: {after.measure}",
            "first": None if before.mean is None else before.mean.value,
            "last": None if after.mean is None else after.mean.value,
            "change": after.difference,
            "interval": _interval(after.difference),
        }
        for before, after in zip(found.before, found.lines, strict=True)
    ]
    steps = (found.first_step, found.last_step)
    pairs = [
        {
            "prompt": pair.first.get("prompt", ""),
            "ground_truth": pair.first.get("ground_truth"),
            "responses": [
                {
                    "step": step,
                    "response": row.get("response", ""),
                    "tokens": row.get("tokens"),
                    "rewards": row["rewards"],
                }
                for step, row in zip(steps, pair, strict=True)
            ],
        }
        for pair in found.pairs
    ]
    return {"first": steps[0], "last": steps[1], "rows": rows, "pairs": pairs}


def _interval(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{interval.low:+z.3f}, {interval.high:+z.3f}]"
