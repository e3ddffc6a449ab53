"""VADER's analyzer with its own rules and values, in linear time, where its release takes quadratic time."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

BEFORE, AFTER = 3, 2
"""Words around a word that its rules look at."""


class LinearAnalyzer(SentimentIntensityAnalyzer):
    @staticmethod
    def _special_idioms_check(valence: float, words: Sequence[str], i: int) -> float:
        start = max(0, i - BEFORE)
        near = words[start : i + 1 + AFTER]
        return float(SentimentIntensityAnalyzer._special_idioms_check(valence, near, i - start))

    @staticmethod
    def _negation_check(valence: float, words: Sequence[str], start_i: int, i: int) -> float:
        start = max(0, i - BEFORE)
        near = words[start : i + 1 + AFTER]
        return float(SentimentIntensityAnalyzer._negation_check(valence, near, start_i, i - start))

    @staticmethod
    def _but_check(words: Sequence[str], sentiments: list[float]) -> list[float]:
        """What stands before the first "but" counts half, what stands after it half as much again.

        For each place the release changes the first place of the same value, which isn't always the same place.
        """
        lower = [word.lower() for word in words]
        if "but" not in lower:
            return sentiments
        but = lower.index("but")
        places: dict[float, list[int]] = defaultdict(list)
        for place, sentiment in enumerate(sentiments):
            places[sentiment].append(place)  # ascending, hence a heap
        for place in range(len(sentiments)):
            value = sentiments[place]
            first = places[value][0]
            if first != but:
                heapq.heappop(places[value])
                sentiments[first] = value * (0.5 if first < but else 1.5)
                heapq.heappush(places[sentiments[first]], first)
        return sentiments
