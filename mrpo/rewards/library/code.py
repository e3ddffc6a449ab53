"""The share of a coding problem's tests that the response's program passes."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._run_cases import CaseRunner, check_options, notes, seconds_of

__all__ = ["bounds", "code", "notes", "seconds"]


class code(CaseRunner):
    """Passed tests / tests, where the program is a Markdown block of Python in the response; 0 if there is none.

    Of several blocks it is the last that has what the tests need (``_program``), so that neither an example of its use
    nor a sample of its output is taken for it.

    The pass rate of GDPO's coding rewards (arXiv 2601.05242). The ground truth is tests in one of the forms of
    ``mrpo.rewards.cases``: inputs and outputs of a program or a function, or asserts. The program runs in the sandbox
    and never sees the expected outputs; only asserts run beside it, where a program made for it could forge them.

    Options as ``CaseRunner`` describes them.

    Raises:
        ValueError: in scoring, the ground truth isn't tests.
        SandboxError: no sandbox works here.
        RewardError: ``sandbox``: it couldn't be started.
    """

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        verdicts = self.verdicts(response, ground_truth)
        return 0.0 if verdicts is None else verdicts.count("passed") / len(verdicts)


def bounds(**options: Any) -> tuple[float, float]:
    check_options(**options)
    return 0.0, 1.0


seconds = seconds_of
