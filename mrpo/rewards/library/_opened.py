"""A response whose first tag its prompt has opened already, as some chat templates do: ``<|assistant|><think>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_opened_tag(response: str, extra: Mapping[str, Any]) -> str:
    """The response as the model has continued it: with the tag that the rendered prompt ends in.

    Args:
        extra: ``opened_tag``, where there is one, is that tag's name.

    >>> with_opened_tag("so</think> 5", {"opened_tag": "think"})
    '<think>so</think> 5'
    """
    tag = extra.get("opened_tag")
    return f"<{tag}>{response}" if tag and not response.lstrip().startswith(f"<{tag}>") else response
