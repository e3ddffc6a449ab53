"""A response's text: all that the model wrote, but for the tokens that end it. And whether it has an end at all.

Many tokenizers call tags special (``<think>``, ``<tool_call>``). Decoding that skips special tokens would hide them
from the rewards which look for them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from mrpo.config.model_files import find_model_file

INCOMPLETE = "\ufffd"
"""What bytes decode to that are no character, or not yet."""


class ResponseDecoder:
    """Decodes responses of one model.

    Args:
        tokenizer: the model's.
        stop_ids: what else ends a response, as the model's generation config says.
    """

    def __init__(self, tokenizer: Any, stop_ids: int | Sequence[int] | None = None):
        more = [stop_ids] if isinstance(stop_ids, int) else list(stop_ids or ())
        self.tokenizer = tokenizer
        self.stops = {token for token in (tokenizer.eos_token_id, *more) if token is not None}
        """By these tokens the engine ends a response."""
        self.ends = self.stops | ({tokenizer.pad_token_id} - {None})

    @classmethod
    def of_model(cls, tokenizer: Any, path: str) -> ResponseDecoder:
        file = find_model_file(path, "generation_config.json")
        return cls(tokenizer, json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file else None)

    def __call__(self, ids: Sequence[int]) -> str:
        end = len(ids)
        while end and int(ids[end - 1]) in self.ends:
            end -= 1
        return self._decode(ids[:end])

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, those that end the response included. Of a character that several tokens make, the
        last of them has it.

        A token's text depends on those before it (a space that a sentence doesn't begin with, the bytes of a
        character): it is what it adds to the text of the last ones, as text-generation-inference streams it.
        """
        found, start, known = list[str](), 0, 0  # texts; the tokens [start, known) are decoded anew, as context
        for end in range(1, len(ids) + 1):
            before, text = self._decode(ids[start:known]), self._decode(ids[start:end])
            whole = len(text) > len(before) and not text.endswith(INCOMPLETE)
            if whole or end == len(ids):
                found.append(text[len(before) :])
                start, known = known, end
            else:
                found.append("")
        return found


def is_truncated(response: Sequence[int], mask: Sequence[int], room: int, stops: Collection[int]) -> bool:
    """Whether a response has reached its limit before its end, which is vLLM's finish reason "length". verl drops that
    reason on its way, and calls a response truncated that ends exactly at the limit.

    Args:
        response: token ids, also of what tools wrote.
        mask: 1 for each token that the model wrote.
        room: the limit, in tokens.
        stops: tokens that end a response.

    >>> is_truncated([5, 6, 7], [1, 1, 1], 3, {0}), is_truncated([5, 6, 0], [1, 1, 1], 3, {0})
    (True, False)
    """
    return 0 < room <= len(response) and not (mask[-1] and response[-1] in stops)
