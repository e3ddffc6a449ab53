"""What a reward gets in place of a ground truth where there is none, as for a prompt that somebody just typed.

None would be compared with, and give a score of 0 that means nothing. This refuses every use instead, and so the reward
fails with a cause that says why; one that doesn't look at its ground truth isn't disturbed.
"""

from __future__ import annotations

from typing import Any, NoReturn

from mrpo.rewards.outcome import RewardError

CAUSE = "ground truth"
"""The failure's cause."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RewardError(CAUSE, "there is none for this prompt")


class NoGroundTruth:
    """
    >>> "4" == NoGroundTruth()
    Traceback (most recent call last):
    mrpo.rewards.outcome.RewardError: there is none for this prompt
    """

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __str__ = __repr__ = __format__ = __bool__ = __len__ = __iter__ = __contains__ = _refuse
    __getitem__ = __int__ = __float__ = __index__ = __fspath__ = __add__ = __radd__ = __call__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what pickle and isinstance look for
            raise AttributeError(name)
        _refuse()
