"""A response's text: all that the model wrote, but for the tokens that end it.

Many tokenizers call tags special (``<think>``, ``<tool_call>``). Decoding that skips special tokens would hide them
from the rewards which look for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mrpo.config.model_files import find_model_file


class ResponseDecoder:
    """Decodes responses of one model.

    Args:
        tokenizer: the model's.
        stop_ids: what else ends a response, as the model's generation config says.
    """

    def __init__(self, tokenizer: Any, stop_ids: int | Sequence[int] | None = None):
        more = [stop_ids] if isinstance(stop_ids, int) else list(stop_ids or ())
        known = (tokenizer.eos_token_id, tokenizer.pad_token_id, *more)
        self.tokenizer, self.ends = tokenizer, {token for token in known if token is not None}

    @classmethod
    def of_model(cls, tokenizer: Any, path: str) -> ResponseDecoder:
        file = find_model_file(path, "generation_config.json")
        return cls(tokenizer, json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file else None)

    def __call__(self, ids: Sequence[int]) -> str:
        end = len(ids)
        while end and int(ids[end - 1]) in self.ends:
            end -= 1
        return str(self.tokenizer.decode(ids[:end], skip_special_tokens=False))
