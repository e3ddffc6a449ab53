"""What a model wrote in the turns of a rollout, apart from what tools and templates put between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any


def request_seed(*identity: Any) -> int:
    """A sampling seed in [0, 2**31) that follows from what a request is for, not from when it is made."""
    digest = hashlib.blake2b("/".join(map(str, identity)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def of_turn(sampling: dict[str, Any], turn: int) -> dict[str, Any]:
    """``sampling`` with a seed for this turn of its rollout, counted from 0: each turn draws anew.

    >>> of_turn({"seed": 5}, 0), of_turn({"seed": 5}, 1)
    ({'seed': 5}, {'seed': 932577286})
    """
    return {**sampling, "seed": request_seed(sampling["seed"], turn)} if turn else sampling


def model_turns(ids: Sequence[int], mask: Sequence[int]) -> list[list[int]]:
    """Token ids of each turn that the model wrote: the runs of tokens that are in the loss.

    Args:
        ids: of a response, with what tools wrote.
        mask: 1 for each token of the model's.

    >>> model_turns([5, 6, 90, 91, 7], [1, 1, 0, 0, 1])
    [[5, 6], [7]]
    """
    if all(mask):
        return [list(ids)] if len(ids) else []
    marked = groupby(zip(ids, mask, strict=True), key=lambda pair: bool(pair[1]))
    return [[token for token, _ in run] for of_model, run in marked if of_model]


class TurnSeeds:
    """An engines' client for one rollout, whose every request has a seed of its own, the first one ``seed``."""

    def __init__(self, client: Any, seed: int):
        self.client, self.seed, self.turns = client, seed, 0

    async def generate(self, *given: Any, sampling_params: dict[str, Any], **more: Any) -> Any:
        turn, self.turns = self.turns, self.turns + 1
        seeded = of_turn({**sampling_params, "seed": self.seed}, turn)
        return await self.client.generate(*given, sampling_params=seeded, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def without_ends(text: str, ends: Iterable[str]) -> str:
    """A text without the tokens that end a turn, as texts, at its end.

    >>> without_ends("so<|im_end|>", ["<|im_end|>", "<pad>"])
    'so'
    """
    found = next((end for end in ends if end and text.endswith(end)), "")
    return without_ends(text.removesuffix(found), ends) if found else text
