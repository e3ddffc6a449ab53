"""The response consists of the required tags, in order, each once: ``<think>…</think> <answer>…</answer>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mrpo.rewards.library._opened import with_opened_tag
from mrpo.rewards.library._text import in_order


class tags:
    """1 if the response holds each tag of ``names`` opened once and closed once, one after the other; else 0.

    The format reward of DeepSeek-R1 (arXiv 2501.12948, section 2.2.2), with ``names: [think, answer]``. A tag that the
    chat template has opened at the prompt's end counts as the response's.

    Args:
        names: the tags, without brackets.
        nothing_else: and only whitespace outside of them.

    Raises:
        ValueError: ``names`` is empty, no list, or repeats a tag.
    """

    def __init__(self, *, names: Sequence[str], nothing_else: bool = True):
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise ValueError(f"names: given {names!r}, allowed: a list of different tags, say [think, answer]")
        self.names, self.nothing_else = tuple(names), nothing_else

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        return float(in_order(with_opened_tag(response, extra), self.names, self.nothing_else))


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0
