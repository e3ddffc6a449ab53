"""What an allocator knows of each prompt before the step. Shapes: ``N`` prompts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PromptStats:
    """Evidence per prompt, row for row with the prompts of the step. NaN means unknown, never zero."""

    trials_N: FloatArray
    """Rollouts behind the numbers; a decayed history has fractions of them."""
    mean_N: FloatArray
    """Mean of the signal. A method that needs a success rate reads it here, in [0, 1]."""
    variance_N: FloatArray
    """Variance of one rollout's signal (a Bernoulli signal: the estimate of p(1 − p))."""
    response_length_N: FloatArray | None = None
    """Predicted tokens of one response."""
    gradient_norm_N: FloatArray | None = None
    """Norm of one rollout's score function (∇ log π), which ``gvm`` needs."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            array = np.asarray(value, dtype=np.float64)
            if array.shape != (len(self.trials_N),):
                raise ConfigError(f"PromptStats.{field.name}: shape {array.shape}, expected ({len(self.trials_N)},)")
            object.__setattr__(self, field.name, array)

    def __len__(self) -> int:
        return len(self.trials_N)

    def take(self, index: Any) -> PromptStats:
        """The stats of ``index`` (anything that indexes a numpy vector), in that order."""
        picked: dict[str, Any] = {
            f.name: None if (v := getattr(self, f.name)) is None else v[index] for f in fields(self)
        }
        return PromptStats(**picked)

    @classmethod
    def from_rates(cls, rate_N: npt.ArrayLike, trials: float = 1e6, **others: Any) -> PromptStats:
        """Prompts whose success rates are known: variance p(1 − p)."""
        rate = np.asarray(rate_N, dtype=np.float64)
        return cls(np.full(rate.shape, trials), rate, rate * (1 - rate), **others)

    @classmethod
    def from_counts(cls, successes_N: npt.ArrayLike, trials_N: npt.ArrayLike, **others: Any) -> PromptStats:
        """Counted successes: the unbiased k(n − k)/(n(n − 1)), unknown below two trials (DynaMO, arXiv 2602.19208)."""
        k, n = np.asarray(successes_N, dtype=np.float64), np.asarray(trials_N, dtype=np.float64)
        mean = np.divide(k, n, out=np.full(n.shape, np.nan), where=n > 0)
        variance = np.divide(k * (n - k), n * (n - 1), out=np.full(n.shape, np.nan), where=n > 1)
        return cls(n, mean, variance, **others)
