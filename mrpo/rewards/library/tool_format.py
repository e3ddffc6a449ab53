"""The response is a turn in ToolRL's format, with the fields that the ground truth has."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._opened import with_opened_tag
from mrpo.rewards.library._text import in_order
from mrpo.rewards.rlla import check_dialect, fields_of, merged


def bounds(*, dialect: str = "toolrl") -> tuple[float, float]:
    check_dialect(dialect)
    return 0.0, 1.0


def tool_format(
    prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any], *, dialect: str = "toolrl"
) -> float:
    """1 if all required fields are there, each once, in order, and nothing else; else 0 (ToolRL's R_format, arXiv
    2504.13958, section 3.3).

    Required are ``<think>`` and whichever of ``<tool_call>`` and ``<response>`` the ground truth has. It is the order
    that counts, as the paper says: any whitespace may stand between the fields, where ToolRL's released code wants one
    newline. A ``<think>`` that the chat template has opened at the prompt's end counts. Whether the calls are JSON is
    for ``tool_call`` to judge.

    Args:
        dialect: ``toolrl``, the paper's; with ``hermes`` or ``any`` several ``<tool_call>`` may follow one another, and
            ``<think>`` is required only where the ground truth has it.

    Raises:
        ValueError: the ground truth isn't a text in RLLA's format.
    """
    check_dialect(dialect)
    said, fields = with_opened_tag(response, extra), fields_of(ground_truth)
    if dialect != "toolrl":
        said = merged(said)
        if "<think>" not in ground_truth and "<think>" not in said:
            fields.remove("think")
    return float(in_order(said, fields, nothing_else=True))
