"""How positive, or negative, the response sounds, by a lexicon of English."""

from __future__ import annotations

from typing import Any


class sentiment:
    """(1 + c)/2 for ``want: positive``, (1 - c)/2 for ``negative``, with VADER's compound score c in [-1, 1].

    VADER (Hutto and Gilbert 2014) adds up its lexicon's values of the words, with rules for negation, capitals and
    intensifiers. A text without any of them, so also an empty one, is neutral: 0.5.

    Raises:
        ValueError: ``want`` is neither.
    """

    def __init__(self, *, want: str = "positive"):
        if want not in ("positive", "negative"):
            raise ValueError(f"want: given {want!r}, allowed: positive, negative")
        from mrpo.rewards.library._vader import LinearAnalyzer

        self.sign = 1 if want == "positive" else -1
        self.analyzer = LinearAnalyzer()

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        return float(1 + self.sign * self.analyzer.polarity_scores(response)["compound"]) / 2


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0
