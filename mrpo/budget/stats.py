"""What an allocator knows of each prompt before the step. Shapes: ``G`` prompt groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PromptStats:
    """Evidence per prompt, row for row with the prompts of the step. NaN means unknown, never zero.

    Raises:
        ConfigError: a field's shape isn't that of ``trials_G``.

    >>> PromptStats(trials_G=[16, 0], mean_G=[0.5, np.nan], variance_G=[0.25, np.nan]).take([0]).mean_G.tolist()
    [0.5]
    """

    trials_G: FloatArray
    """Rollouts behind the numbers; a decayed history has fractions of them."""
    mean_G: FloatArray
    """Mean of the signal. A method that needs a success rate reads it here, in [0, 1]."""
    variance_G: FloatArray
    """Variance of one rollout's signal (a Bernoulli signal: the estimate of p(1 − p))."""
    response_length_G: FloatArray | None = None
    """Predicted tokens of one response."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            array = np.asarray(value, dtype=np.float64)
            if array.shape != (len(self.trials_G),):
                raise ConfigError(f"PromptStats.{field.name}: shape {array.shape}, expected ({len(self.trials_G)},)")
            object.__setattr__(self, field.name, array)

    def __len__(self) -> int:
        return len(self.trials_G)

    def take(self, index: Any) -> PromptStats:
        """The stats of ``index`` (anything that indexes a numpy vector), in that order."""
        taken: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            taken[field.name] = None if column is None else column[index]
        return PromptStats(**taken)

    @classmethod
    def concatenate(cls, parts: Sequence[PromptStats]) -> PromptStats:
        """The prompts of all parts, in order. A field that any of them lacks is None."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            columns = [getattr(part, field.name) for part in parts]
            joined[field.name] = None if any(column is None for column in columns) else np.concatenate(columns)
        return cls(**joined)
