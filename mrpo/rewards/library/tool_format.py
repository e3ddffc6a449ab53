"""The response is a turn in ToolRL's format, with the fields that the ground truth has."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._opened import with_opened_tag
from mrpo.rewards.library._text import in_order
from mrpo.rewards.rlla import fields_of


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def tool_format(prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
    """1 if all required fields are there, each once, in order, and nothing else; else 0 (ToolRL's R_format, arXiv
    2504.13958, section 3.3).

    Required are ``<think>`` and whichever of ``<tool_call>`` and ``<response>`` the ground truth has. It is the order
    that counts, as the paper says: any whitespace may stand between the fields, where ToolRL's released code wants one
    newline. A ``<think>`` that the chat template has opened at the prompt's end counts. Whether the calls are JSON is
    for ``tool_call`` to judge.

    Raises:
        ValueError: the ground truth isn't a text in RLLA's format.
    """
    return float(in_order(with_opened_tag(response, extra), fields_of(ground_truth), nothing_else=True))
