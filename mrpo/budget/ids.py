"""A prompt's stable id, the same in every run, process and order of the data set, and the uid of a draw of it.

The id is a hash of the prompt's content, and finds its history. A uid is ``{id in hex}-{draw}``: the second part tells
draws of the same prompt apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.budget.uids import uid_content
from mrpo.errors import ConfigError

IdArray = npt.NDArray[np.uint64]


def prompt_id(prompt_messages: Any, ground_truth: Any = None, data_source: str | None = None) -> int:
    """64-bit id of the prompt's content; among a million prompts two collide with probability 3e-8.

    ``prompt_messages`` is a text or a list of chat messages; keys may come in any order, and numpy arrays count as the
    lists they hold. Any other change of content gives another id. Raises TypeError for content that has no JSON form.
    """
    content = json.dumps([prompt_messages, ground_truth, data_source], sort_keys=True, default=_plain)
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")


def prompt_uid(messages: Any, ground_truth: Any, data_source: Any, draw: int) -> str:
    """The uid of one draw of a prompt.

    >>> prompt_uid("2+2?", "4", "math", draw=17)
    '89d79474bcad786f-17'
    """
    return f"{prompt_id(messages, ground_truth, data_source):016x}-{draw}"


def content_ids(uids: Iterable[str]) -> list[int]:
    """The prompt ids that uids were made of."""
    return [int(uid_content(uid), 16) for uid in uids]


def as_ids(ids: npt.ArrayLike) -> IdArray:
    """A vector of ids as uint64. A list goes number by number: numpy would round a list of large ones to floats."""
    array = ids if isinstance(ids, np.ndarray) else np.array(ids, dtype=object)
    if array.ndim == 1 and array.dtype.kind == "O" and all(isinstance(i, int | np.integer) for i in array):
        array = np.array([int(i) & 0xFFFFFFFFFFFFFFFF for i in array], dtype=np.uint64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(f"prompt ids: {array.dtype} of shape {array.shape}, allowed a vector of whole numbers")
    return array.astype(np.uint64)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return {"bytes": hashlib.blake2b(value, digest_size=16).hexdigest()}
    raise TypeError(f"prompt content of type {type(value).__name__} has no stable id: give text, numbers, lists, dicts")
