"""Means with confidence intervals, differences of two models on the same prompts, and pass@k.

A prompt's samples are one cluster: its mean counts once, and the bootstrap draws whole prompts. So several samples of a
prompt, or duplicates of it, don't pass for independent evidence. Shapes: G prompts, R values (samples) in all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, hypergeom  # type: ignore[attr-defined]

CONFIDENCE = 0.95
RESAMPLES = 9_999

FloatArray = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and its confidence interval; ``low`` and ``high`` are None with fewer than two prompts (or seeds)."""

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def text(self, digits: int, sign: str = "", star: str = "") -> str:
        """As a table shows it.

        >>> Interval(0.5, 0.25, 0.75).text(2, "+", "*")
        '+0.50* [+0.25, +0.75]'
        """
        value = f"{self.value:{sign}.{digits}f}{star}"
        if self.low is None or self.high is None:
            return value
        return f"{value} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"


def prompt_means(values_R: npt.ArrayLike, prompt_of_R: npt.ArrayLike, prompts: int) -> FloatArray:
    """The mean of each prompt's values, shape (G,); NaN for a prompt without any. A NaN among the values isn't one.

    >>> prompt_means([1.0, 0.0, float("nan"), 1.0], [0, 0, 1, 2], prompts=4).tolist()
    [0.5, nan, 1.0, nan]

    Args:
        values_R: scores, NaN where there is none.
        prompt_of_R: which prompt each value is of, from 0 to ``prompts`` - 1.
        prompts: G.
    """
    values, prompt_of = np.asarray(values_R, dtype=np.float64), np.asarray(prompt_of_R, dtype=np.int64)
    known = ~np.isnan(values)
    sums = np.bincount(prompt_of[known], values[known], minlength=prompts)
    counts = np.bincount(prompt_of[known], minlength=prompts)
    return np.divide(sums, counts, out=np.full(prompts, np.nan), where=counts > 0)


def mean(means_G: FloatArray, seed: int = 0) -> Interval | None:
    """The mean over prompts, with its 95 % percentile bootstrap interval; prompts that are NaN are left out.

    Returns:
        None if no prompt has a value.
    """
    known = means_G[~np.isnan(means_G)]
    if not len(known):
        return None
    value = float(known.mean())
    if len(known) == 1:
        return Interval(value, None, None)
    if np.all(known == known[0]):  # every resample is the same
        return Interval(value, value, value)
    how: dict[str, Any] = {"method": "percentile", "confidence_level": CONFIDENCE, "n_resamples": RESAMPLES}
    # In batches: all resamples at once would be 9 999 times the prompts' memory.
    found = bootstrap((known,), np.mean, vectorized=True, batch=256, rng=np.random.default_rng(seed), **how)
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_difference(means_G: FloatArray, first_G: FloatArray, seed: int = 0) -> Interval | None:
    """The mean of ``means_G - first_G`` over the prompts in which both have a value, with its interval.

    Prompts differ among each other far more than two models do on the same prompt; a difference by prompt doesn't
    contain that spread.
    """
    return mean(means_G - first_G, seed)


def pass_at_k(samples_G: npt.ArrayLike, successes_G: npt.ArrayLike, k: int) -> FloatArray:
    """Probability that at least one of k samples succeeds: the unbiased estimate by prompt, shape (G,).

    1 - C(n - c, k) / C(n, k) of n samples with c successes: of k drawn without replacement none is a success with the
    hypergeometric probability. Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374,
    equation 1.

    >>> pass_at_k([4, 4, 1], [1, 0, 1], k=2).tolist()
    [0.5, 0.0, nan]

    Args:
        samples_G: n of each prompt. Where it is less than k the result is NaN.
        successes_G: c of each prompt, at most n.
        k: from 1.

    Raises:
        ValueError: k is less than 1, or a prompt has more successes than samples.
    """
    samples, successes = np.asarray(samples_G, dtype=np.int64), np.asarray(successes_G, dtype=np.int64)
    if k < 1 or np.any(successes > samples) or np.any(successes < 0):
        raise ValueError(f"pass@k: given k={k}, allowed: k of 1 or more, and no more successes than samples")
    enough = samples >= k
    drawn = np.where(enough, samples, k)  # the distribution isn't defined where k can't be drawn
    estimate = 1.0 - hypergeom.pmf(0, drawn, np.minimum(successes, drawn), k)
    return np.where(enough, np.clip(estimate, 0.0, 1.0), np.nan)


def powers_of_two(n: int) -> list[int]:
    """The k of pass@k that n samples allow: 1, 2, 4, … and n itself.

    >>> powers_of_two(6)
    [1, 2, 4, 6]
    """
    return sorted({*(2**i for i in range(n.bit_length()) if 2**i <= n), n} - {0})
