"""Prompts and responses in compressed blocks, which a browser opens one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mrpo.observe.page.columns import deflate
from mrpo.record.token_file import LISTS

BLOCK = 256
"""Rollouts in a block, one block being what is opened to show one of them."""
MAX_BLOCK = 4_000_000
"""Characters in a block; one that reaches this ends early, so that long responses don't make huge ones."""
MAX_CHARACTERS = 100_000
"""Of one text. A longer one keeps its beginning and its end, and says how much was left out."""
MAX_TOKENS = 20_000
"""Of one response whose single tokens were recorded. A longer one keeps its first tokens, and says how many follow."""
MORE = ("failures", "details", "messages", "versions", "data_source")
"""What a rollout may have beside its texts, and is shown with them."""


def shorten(text: str, largest: int = MAX_CHARACTERS) -> tuple[str, int]:
    """The text, and how many of its characters were left out: of its middle, after three quarters of what is kept.

    >>> shorten("abcdefghij", 4)
    ('abc\\n[…]\\nj', 6)
    """
    if len(text) <= largest:
        return text, 0
    head = largest * 3 // 4
    return f"{text[:head]}\n[…]\n{text[len(text) - (largest - head) :]}", len(text) - largest


def entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a rollout's record is shown as text; ``left_out`` has the number of characters by field."""
    found: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for name in ("prompt", "response", "ground_truth"):
        value = record.get(name)
        if value is None or value == "":
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        found[name], missing = shorten(text)
        left_out |= {name: missing} if missing else {}
    for name in MORE:
        value = record.get(name)
        if value is None or value == {} or value == []:
            continue
        size = len(json.dumps(value))
        if size > MAX_CHARACTERS:
            left_out[name] = size
        else:
            found[name] = value
    return found | ({"left_out": left_out} if left_out else {})


def token_entry(record: Mapping[str, Any], largest: int = MAX_TOKENS) -> dict[str, Any]:
    """What of a rollout's tokens is shown; ``left_out`` has their number, if not all are.

    >>> token_entry({"pieces": ["a", "b"], "log_probs": [-1.0, -2.0], "advantages": [1.0, 1.0], "in_loss": [1, 0]}, 1)
    {'pieces': ['a'], 'log_probs': [-1.0], 'advantages': [1.0], 'in_loss': [1], 'left_out': 1}
    """
    found: dict[str, Any] = {name: record[name][:largest] for name in LISTS}
    left_out = len(record["pieces"]) - largest
    return found | ({"left_out": left_out} if left_out > 0 else {})


class BlockWriter:
    """Collects entries; each full block is compressed at once, so that no more than one is held as text.

    A prompt that an earlier entry of the block has is stored as that entry's place in it.
    """

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.sizes: list[int] = []
        """Entries of each block."""
        self._entries: list[str] = []
        self._characters = 0
        self._prompts: dict[str, int] = {}

    def add(self, given: dict[str, Any]) -> None:
        prompt = given.get("prompt")
        if prompt is not None:
            place = self._prompts.setdefault(prompt, len(self._entries))
            given = given | {"prompt": place} if place < len(self._entries) else given
        # Escapes keep half a surrogate pair, which has no UTF-8 form, what it is.
        self._entries.append(json.dumps(given, separators=(",", ":")))
        self._characters += len(self._entries[-1])
        if len(self._entries) >= BLOCK or self._characters >= MAX_BLOCK:
            self.close()

    def close(self) -> None:
        """End the block that is being filled, if there is anything in it."""
        if self._entries:
            self.blocks.append(deflate(f"[{','.join(self._entries)}]".encode("ascii")))
            self.sizes.append(len(self._entries))
            self._entries, self._characters, self._prompts = [], 0, {}


def read_block(content: bytes) -> Iterator[dict[str, Any]]:
    """The entries of a block, as the page's script reads them."""
    import zlib

    entries = json.loads(zlib.decompress(content))
    for found in entries:
        if isinstance(found.get("prompt"), int):
            found = found | {"prompt": entries[found["prompt"]]["prompt"]}
        yield found
