"""The response is the ground truth, character for character."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._text import accepted, inside


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def exact_match(
    prompt: Any,
    response: str,
    ground_truth: Any,
    extra: dict[str, Any],
    *,
    strip: bool = True,
    lower: bool = False,
    tag: str | None = None,
) -> float:
    """1 if the response equals the ground truth, or one of its answers if it is a list; else 0.

    Args:
        strip: without whitespace at both ends.
        lower: without regard to case.
        tag: compare the text of the last ``<tag>…</tag>`` instead; 0 if there is none.

    Raises:
        ValueError: the ground truth is neither a text, a number nor a list of them.
    """

    def form(text: str) -> str:
        text = text.strip() if strip else text
        return text.casefold() if lower else text

    answers = {form(answer) for answer in accepted(ground_truth)}
    given = inside(response, tag) if tag else response
    return float(given is not None and form(given) in answers)
