"""A batch's rows in verl's TransferQueue: what they have earned, and what they say to a person. Shapes: M rows.

A step reads what its advantages are made of and no more: scores and lengths, not tokens. Rows come in pieces, so that
what is on its way is never of the batch's size. What their tokens get is in ``token_rows``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transfer_queue import KVBatchMeta

from mrpo.rewards.wire import (
    DETAILS,
    FAILURES,
    INDEX,
    LOSS_LENGTH,
    MESSAGES,
    PROMPT_HASH,
    RESPONSE,
    SCORE,
    SEEN,
    TOOL_CALLS,
    TRUNCATED,
    decode,
)
from mrpo.step.importance import WeightSums
from mrpo.step.policy_sums import PolicySums
from mrpo.step.rollouts import BatchRow, RowKey
from mrpo.step.seam import PromptContent, RolloutText, ValidationRow
from mrpo.step.token_advantages import TokenAdvantages
from mrpo.verl_seam.columns import PIECE, Columns, get, plain
from mrpo.verl_seam.text import ResponseDecoder

PARTITION, VALIDATION = "train", "val"


@dataclass
class VerlBatch:
    """``handle`` names the rows, the rest holds what was read of them."""

    handle: KVBatchMeta
    metrics: dict[str, Any]
    columns: Columns = field(default_factory=dict)
    sums: PolicySums | None = None
    """What the ranks have left of each row; None: they weren't asked for log-probabilities."""
    weight_sums: WeightSums | None = None
    """The same of its importance weights; None: they weren't asked for them."""
    masks: dict[int, torch.Tensor] | None = None
    """Of rows with tokens outside the loss, bool[T] each; of any other row all tokens are in it. None: not read,
    as what the ranks have left is enough."""
    tokens_M: list[int] = field(default_factory=list)
    """Of each row, those in the loss."""
    advantages: TokenAdvantages = field(default_factory=TokenAdvantages)
    """Of all tokens that the update will see."""

    @property
    def size(self) -> int:
        return sum(not is_padding(tag) for tag in self.handle.tags)


def is_padding(tag: Mapping[str, Any]) -> bool:
    return bool(tag.get("is_padding", False))


def pieces(rows: Sequence[int], size: int = PIECE) -> Iterator[Sequence[int]]:
    """
    >>> list(pieces(range(5), 2))
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return (rows[first : first + size] for first in range(0, len(rows), size))


def fetch(batch: KVBatchMeta, fields: Sequence[str], rows: Sequence[int]) -> Columns:
    """These fields of these rows, or those of the fields that the rows have.

    Raises:
        RuntimeError: rows are missing.
    """
    fields = [name for name in fields if batch.fields is None or name in batch.fields]
    return get(str(batch.partition_id), [batch.keys[row] for row in rows], fields)


def fetch_scored(batch: KVBatchMeta, names: Sequence[str]) -> Columns:
    """What advantages and the rollout log need of every row.

    Raises:
        RuntimeError: rows are missing, or not in the order of their keys.
    """
    columns = fetch(batch, ["uid", "extra_fields", *on_wire(names), FAILURES, DETAILS], range(len(batch.keys)))
    for key, uid in zip(batch.keys, columns["uid"], strict=True):
        if RowKey.parse(key).uid != str(uid):
            raise RuntimeError(f"row {key} holds the data of prompt {uid}: rows are mixed up")
    return columns


def split(batch: KVBatchMeta, prompts: int) -> list[KVBatchMeta]:
    """Batches of so many prompt groups each, in the order of their uids."""
    uid_of = [RowKey.parse(key).uid for key in batch.keys]
    uids = sorted(set(uid_of))
    parts = [set(uids[first : first + prompts]) for first in range(0, len(uids), prompts)]
    chosen = [[i for i, uid in enumerate(uid_of) if uid in part] for part in parts]
    return [
        KVBatchMeta(
            partition_id=batch.partition_id, keys=[batch.keys[i] for i in rows], tags=[batch.tags[i] for i in rows]
        )
        for rows in chosen
    ]


def batch_rows(batch: KVBatchMeta, columns: Columns, tokens_M: Sequence[int], names: Sequence[str]) -> list[BatchRow]:
    """What is known of each of the M rows; ``tokens_M``: tokens of each that the loss counts."""
    size = len(batch.keys)
    padding = [is_padding(tag) for tag in batch.tags]
    versions = [(tag.get("min_global_steps"), tag.get("max_global_steps")) for tag in batch.tags]
    about = row_components(columns, names, size), tokens_M, padding, seen_rollouts(columns, size), truncated(columns)
    return list(map(BatchRow, batch.keys, *about, versions))


def row_components(data: Any, names: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Each row's components from whichever of verl's two shapes they came in.

    Scored while rolling out: ``extra_fields["reward_extra_info"]``. Scored after it (colocated reward models): a field
    of the batch per component.
    """
    nested = [plain(item) for item in data["extra_fields"]] if "extra_fields" in data else [{}] * size
    rows = [dict(item.get("reward_extra_info") or {}) for item in nested]
    for name in (*on_wire(names), FAILURES, DETAILS):
        if name in data:
            for row, value in zip(rows, data[name], strict=True):
                row[name] = plain(value)
    return [decode(row) for row in rows]


def on_wire(names: Iterable[str]) -> list[str]:
    return [SCORE + name for name in names]


def seen_rollouts(data: Any, size: int) -> list[Sequence[dict[str, Any]]]:
    """All rollouts of each row's prompt, as ``agent_loop.RoundsWorker`` left them; empty for a prompt sampled once."""
    if "extra_fields" not in data:
        return [()] * size
    return [plain(item).get(SEEN, ()) for item in data["extra_fields"]]


def truncated(data: Any) -> list[bool | None]:
    """Of each row, as ``agent_loop.SeededAgentLoopWorker`` left it; None: another agent loop, which doesn't say."""
    return [plain(item).get(TRUNCATED) for item in data["extra_fields"]]


def texts(batch: VerlBatch, rows: Sequence[int], decoder: ResponseDecoder) -> Callable[[], list[RolloutText]]:
    """What those rows hold, for a person to read: read at once, decoded when the result is called. A prompt is read and
    decoded once for all rows of it, and a response is the text that its rewards have seen; without rewards that have
    seen one, it is read and decoded."""
    if not rows:
        return list
    handle, seen = batch.handle, [extra.get(RESPONSE) for extra in batch.columns["extra_fields"]]
    same = [(RowKey.parse(handle.keys[row]).uid, handle.tags[row].get(PROMPT_HASH, row)) for row in rows]
    first = dict(zip(reversed(same), reversed(rows), strict=True))
    prompts = fetch(handle, ["prompts", "reward_model"], list(first.values()))
    answers = [plain(one)["ground_truth"] for one in prompts["reward_model"]]
    unseen = [row for row in rows if seen[row] is None]
    responses = fetch(handle, ["responses"], unseen).get("responses", [])
    tokens: Counter[tuple[str, int]] = Counter()
    for key, tag in zip(handle.keys, handle.tags, strict=True):
        if not is_padding(tag):
            tokens[RowKey.parse(key)[:2]] += model_tokens(tag)
    counts = [tokens[RowKey.parse(handle.keys[row])[:2]] for row in rows]
    said = [batch.columns["extra_fields"][row].get(MESSAGES) for row in rows]

    def decoded() -> list[RolloutText]:
        about = dict(zip(first, zip(_decoded(prompts["prompts"], decoder), answers, strict=True), strict=True))
        read = {row: decoder(tokens.tolist()) for row, tokens in zip(unseen, responses, strict=True)}
        return [
            RolloutText(prompt, read[row] if row in read else seen[row], answer, count, messages)
            for row, (prompt, answer), count, messages in zip(
                rows, map(about.__getitem__, same), counts, said, strict=True
            )
        ]

    return decoded


def model_tokens(tag: Mapping[str, Any]) -> int:
    """Tokens of a row's response that the model wrote, of any agent loop that says it; else all of them."""
    return int(tag.get(LOSS_LENGTH, tag["response_len"]))


def tool_calls(batch: VerlBatch) -> list[Sequence[Mapping[str, Any]]]:
    """The calls of each rollout whose agent has tools."""
    last: dict[tuple[str, int], tuple[int, Any]] = {}
    for key, tag, extra in zip(batch.handle.keys, batch.handle.tags, batch.columns["extra_fields"], strict=True):
        uid, sample, turn = RowKey.parse(key)
        calls = extra.get(TOOL_CALLS)
        if calls is not None and not is_padding(tag) and last.get((uid, sample), (-1,))[0] < turn:
            last[uid, sample] = turn, calls
    return [calls for _, calls in last.values()]


def _decoded(prompts: Sequence[torch.Tensor], decoder: ResponseDecoder) -> list[str]:
    @cache
    def decoded(ids: tuple[int, ...]) -> str:
        return str(decoder.tokenizer.decode(ids, skip_special_tokens=True))

    return [decoded(tuple(ids.tolist())) for ids in prompts]


def data_order(batch: KVBatchMeta) -> list[int]:
    """The rows in the order of the data, whenever they have ended: by it verl adds up a validation's scores, and the
    last bit of their mean depends on it."""
    of_row = [
        (tag.get(INDEX, -1), tag.get(PROMPT_HASH, ""), RowKey.parse(key)[1:])
        for key, tag in zip(batch.keys, batch.tags, strict=True)
    ]
    return sorted(range(len(of_row)), key=of_row.__getitem__)


def validation_rows(batch: KVBatchMeta, names: Sequence[str], decoder: ResponseDecoder) -> list[ValidationRow]:
    """The rows of a batch of validation prompts. Raises RuntimeError if TransferQueue lacks some."""
    fields = ["reward_model", "data_source", "raw_prompt", "extra_fields"]
    rows = range(len(batch.keys))
    columns = fetch(batch, fields, rows)
    prompts = [
        PromptContent(list(plain(chat)), reward["ground_truth"], source)
        for chat, reward, source in zip(
            columns["raw_prompt"], columns["reward_model"], columns["data_source"], strict=True
        )
    ]
    decoded = texts(VerlBatch(batch, {}, columns), rows, decoder)()
    components = row_components(columns, names, len(rows))
    return list(map(ValidationRow, batch.keys, prompts, decoded, components, truncated(columns)))
