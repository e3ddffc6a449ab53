"""A call of a tool, in the process that computes it: loaded there as reward functions are, and called by their way.

A text goes back in pieces, since each entry beside a score is bounded (``mrpo.rewards.details``).
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrpo.rewards.details import MAX_ENTRY
from mrpo.rewards.outcome import RewardError
from mrpo.tools.schema import load_tools

ARGUMENTS = "arguments"
"""The cause of a call whose arguments the tool doesn't take."""


class Call:
    """Computes calls of the tools named in ``tools``."""

    def __init__(self, tools: Sequence[str], folder: str, longest: int):
        self.tools, self.longest = load_tools(tools, Path(folder)), longest

    def __call__(self, prompt: str, response: Mapping[str, Any], ground_truth: Mapping[str, Any], extra: Any) -> Any:
        """``prompt`` is the tool's name, ``response`` the model's arguments, ``ground_truth`` the row's."""
        tool = self.tools[prompt]
        try:
            arguments = tool.arguments(response, ground_truth)
        except TypeError as error:
            raise RewardError(ARGUMENTS, f"TypeError: {tool.name}() {error}") from None
        returned = tool.function(**arguments)
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        text = shortened(as_text(returned), self.longest)
        return {"score": 1.0} | {str(at): text[at : at + MAX_ENTRY] for at in range(0, len(text), MAX_ENTRY)}


def as_text(returned: Any) -> str:
    """What the model reads of a tool's result: a text as it is, nothing for None, all else as JSON.

    >>> as_text("so"), as_text(None), as_text({"a": [1, 2.5]}), as_text(3)
    ('so', '', '{"a": [1, 2.5]}', '3')
    """
    if isinstance(returned, str):
        return returned
    return "" if returned is None else json.dumps(returned, ensure_ascii=False, default=str)


def shortened(text: str, longest: int) -> str:
    """A text of at most ``longest`` characters, or its beginning and end with a mark between them.

    >>> shortened("0123456789", 10), shortened("0123456789", 4)
    ('0123456789', '01...(truncated)...89')
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[: longest - half]}...(truncated)...{text[len(text) - half :]}"
