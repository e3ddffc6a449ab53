"""The share of a coding problem's tests on which the response's program breaks, as a negative number."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._run_cases import CaseRunner, check_options, notes, seconds_of

__all__ = ["bounds", "bug_ratio", "notes", "seconds"]


class bug_ratio(CaseRunner):
    """-(tests whose run doesn't compile, raises, exits with an error code or is killed) / tests; 0: no bug, the best.

    Negative since rewards are maximised. A response without a program doesn't compile: -1. A wrong result is no bug,
    nor is a test that takes too long; both are ``code``'s. The bug objective of GDPO's coding task (arXiv 2601.05242),
    taken test by test.

    Options, ground truth and errors as those of ``code``.
    """

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        verdicts = self.verdicts(response, ground_truth)
        return -1.0 if verdicts is None else -verdicts.count("bug") / len(verdicts)


def bounds(**options: Any) -> tuple[float, float]:
    check_options(**options)
    return -1.0, 0.0


seconds = seconds_of
