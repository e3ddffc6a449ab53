"""What scoring one rollout by one reward came to. Nothing turns one kind into another on the way.

A score, *not applicable* (the reward has nothing to say about this rollout), or *failed with a cause*. The last two are
excluded from statistics and contribute nothing; neither ever counts as a score of 0.

A failure's text begins with its cause and a colon, so that failures can be counted by cause: ``timeout``,
``exception``, ``crash`` (of the process that scored), ``not finite``, ``wrong type``, ``wrong length`` (of a group's
list), ``out of range``, or what a reward names itself by raising ``RewardError``: the library's ``server``, ``judge``
and ``sandbox``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mrpo.rewards.details import details_of

MAX_FAILURE = 500
"""Characters of a failure's text; the rest is cut."""


class RewardError(Exception):
    """Raised by a reward function: failed, for a cause with a name of its own."""

    def __init__(self, cause: str, text: str):
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Outcome:
    """``score`` if there is one; ``failure`` says why if scoring failed; neither: not applicable."""

    score: float | None = None
    failure: str | None = None
    details: str = field(default="", compare=False, repr=False)
    """What else the function returned, as a JSON object; "" for nothing."""

    @property
    def cause(self) -> str | None:
        """What failures are grouped by: the text before the failure's first colon."""
        return None if self.failure is None else self.failure.partition(":")[0]

    @classmethod
    def several(cls, returned: Any, scores: Sequence[tuple[str, tuple[float, float] | None]]) -> list[Outcome]:
        """The outcomes of the rewards that one function gives, by each one's key and range; see ``of``.

        The first has the entries that are none of their scores as its ``details``.
        """
        found = [cls.of(returned, key, range) for key, range in scores]
        if isinstance(returned, tuple):
            returned = {str(n): value for n, value in enumerate(returned)}
        if isinstance(returned, dict):
            found[0] = replace(found[0], details=details_of(returned, {key for key, _ in scores}))
        return found

    @classmethod
    def of_group(
        cls, returned: Any, count: int, scores: Sequence[tuple[str, tuple[float, float] | None]]
    ) -> list[Outcome]:
        """The outcomes of ``count`` rollouts by the rewards that one function gives of them together: those of the
        first rollout, then of the second. Where one of a reward's is a failure, all of its are: it compares all.

        >>> Outcome.of_group([1, None], 2, [("score", None)])
        [Outcome(score=1.0, failure=None), Outcome(score=None, failure=None)]
        """
        if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__len__"):
            text = f"{type(returned).__name__}, not a list of {count} scores"
            return [cls.failed("wrong type", text)] * (count * len(scores))
        if len(returned) != count:
            text = f"{len(returned)} scores of {count} responses"
            return [cls.failed("wrong length", text)] * (count * len(scores))
        rows = [cls.several(entry, scores) for entry in returned]
        for column in range(len(scores)):
            failed = [(n, row[column].failure) for n, row in enumerate(rows) if row[column].failure is not None]
            for row in rows if failed else ():
                (n, failure), *_ = failed
                row[column] = Outcome(failure=f"{failure} (response {n + 1} of {count})"[:MAX_FAILURE])
        return [outcome for row in rows for outcome in row]

    @classmethod
    def of(cls, returned: Any, key: str = "score", range: tuple[float, float] | None = None) -> Outcome:
        """The outcome that a reward function's return value stands for: a number, None, or a dict with ``key``; or a
        tuple, in which ``key`` counts from 0.

        A number outside ``range`` = (low, high) is a failure, not clipped. So is a plain number where a ``key`` other
        than ``score`` is asked for, since nothing says that it is that entry.

        >>> Outcome.of({"score": True, "why": "it matches"})
        Outcome(score=1.0, failure=None)
        >>> Outcome.of(None)
        Outcome(score=None, failure=None)
        >>> Outcome.of(7, range=(0.0, 1.0))
        Outcome(score=None, failure='out of range: 7 is not in [0, 1]')
        """
        if isinstance(returned, tuple):
            if not key.isdecimal() or int(key) >= len(returned):
                return cls.failed("wrong type", f"a tuple of {len(returned)}; say which entry is the score: key: 0")
            return cls.of(returned[int(key)], range=range)
        if isinstance(returned, dict):
            if key not in returned:
                return cls.failed("wrong type", f"a dict without {key!r}, with {sorted(map(str, returned))}")
            returned = returned[key]
        elif key != "score" and returned is not None:
            return cls.failed("wrong type", f"{type(returned).__name__}, not a dict with {key!r}")
        if returned is None:
            return cls()
        if not _is_number(returned):
            return cls.failed("wrong type", type(returned).__name__)
        try:
            score = float(returned)
        except (TypeError, ValueError):
            return cls.failed("wrong type", type(returned).__name__)
        except OverflowError as error:
            return cls.failed("not finite", str(error))
        if not math.isfinite(score):
            return cls.failed("not finite", str(score))
        if range is not None and not range[0] <= score <= range[1]:
            return cls.failed("out of range", f"{score:g} is not in [{range[0]:g}, {range[1]:g}]")
        return cls(score)

    @classmethod
    def failed(cls, cause: str, text: str) -> Outcome:
        """Failed with text that any file or terminal takes: no lone surrogates, at most ``MAX_FAILURE``."""
        whole = f"{cause}: {text}"[:MAX_FAILURE]
        return cls(failure=whole.encode("utf-8", "replace").decode())

    @classmethod
    def raised(cls, error: BaseException) -> Outcome:
        """What an exception of a reward function stands for."""
        try:
            text = str(error)
        except Exception:
            text = "its text could not be made"
        if isinstance(error, RewardError):
            return cls.failed(error.cause, text)
        return cls.failed("exception", f"{type(error).__name__}: {text}" if text else type(error).__name__)

    @classmethod
    def late(cls, seconds: float) -> Outcome:
        """No score within ``seconds``."""
        return cls.failed("timeout", f"no score within {seconds:g} s")


def _is_number(value: Any) -> bool:
    """Does it stand for a number by itself? ``float`` would also parse a text, be it in bytes or in an array."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")  # of numpy's types; torch's have none
    return (hasattr(value, "__float__") or hasattr(value, "__index__")) and kind not in "SUOmMc"
