"""A batch's rows in verl's TransferQueue: read what they earned, write what their tokens get. Shapes: M rows, N
rollouts, T tokens of each, S tokens of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
import torch
import transfer_queue as tq
from tensordict import NonTensorData, TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.workers.utils.padding import response_to_nested

from mrpo.advantages import modulate_tokens, write_ragged, write_tokens
from mrpo.config.advantage import TokenModulation
from mrpo.rewards.wire import DETAILS, FAILURES, RESPONSE, SCORE, SEEN, TRUNCATED, decode
from mrpo.step.rollouts import BatchRow, Rollouts, RowKey
from mrpo.step.seam import PromptContent, RolloutText, ValidationRow
from mrpo.verl_seam.text import ResponseDecoder

PARTITION, VALIDATION = "train", "val"
FIELDS = ("uid", "response_mask", "extra_fields", "prompts", "responses", "reward_model")


@dataclass
class VerlBatch:
    """``handle`` names the rows, ``data`` holds those of their fields that were fetched."""

    handle: KVBatchMeta
    metrics: dict[str, Any]
    data: TensorDict = field(default_factory=TensorDict)

    @property
    def size(self) -> int:
        return sum(not tag.get("is_padding", False) for tag in self.handle.tags)


def _ragged(data: TensorDict, name: str) -> list[torch.Tensor]:
    """The M rows of a ragged field."""
    return list(cast(torch.Tensor, data[name]).unbind())


def _ragged_like(ragged: Any, values_S: torch.Tensor) -> torch.Tensor:
    """Rows of the same lengths, with these values one after another."""
    return torch.nested.nested_tensor_from_jagged(values_S, ragged.offsets())


def fetch(batch: KVBatchMeta, names: Sequence[str]) -> TensorDict:
    """The fields that advantages and the rollout log need. TransferQueue drops unknown keys with a mere warning.

    Raises:
        RuntimeError: rows are missing, or not in the order of their keys.
    """
    fields = [*FIELDS, *on_wire(names), "rollout_log_probs", "old_log_probs", "entropy"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=PARTITION, select_fields=fields)
    if len(data) != len(batch.keys):
        raise RuntimeError(f"TransferQueue returned {len(data)} of the {len(batch.keys)} rows of this step")
    for key, uid in zip(batch.keys, list(data["uid"]), strict=True):
        if RowKey.parse(key).uid != str(uid):
            raise RuntimeError(f"row {key} holds the data of prompt {uid}: rows are mixed up")
    return data


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


def batch_rows(batch: KVBatchMeta, data: TensorDict, names: Sequence[str]) -> list[BatchRow]:
    """What is known of each of the M rows."""
    lengths = tokens_in_loss(data["response_mask"]).tolist()
    padding = [bool(tag.get("is_padding", False)) for tag in batch.tags]
    columns = row_components(data, names, len(data)), lengths, padding, seen_rollouts(data, len(data)), _truncated(data)
    return list(map(BatchRow, batch.keys, *columns))


def tokens_in_loss(mask: Any) -> np.ndarray:
    """Of each of the M rows of a ragged mask, without a copy of it."""
    offsets = mask.offsets().numpy()
    starts, filled = offsets[:-1], np.diff(offsets) > 0
    counts_M = np.zeros(len(starts), dtype=np.int64)
    counts_M[filled] = np.add.reduceat(mask.values().numpy(), starts[filled]) if filled.any() else 0
    return counts_M


def row_components(data: Any, names: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Each row's components from whichever of verl's two shapes they came in.

    Scored while rolling out: ``extra_fields["reward_extra_info"]``. Scored after it (colocated reward models): a field
    of the batch per component.
    """
    nested = [_plain(item) for item in data["extra_fields"]] if "extra_fields" in data else [{}] * size
    rows = [dict(item.get("reward_extra_info") or {}) for item in nested]
    for name in (*on_wire(names), FAILURES, DETAILS):
        if name in data:
            for row, value in zip(rows, data[name], strict=True):
                row[name] = _plain(value)
    return [decode(row) for row in rows]


def on_wire(names: Iterable[str]) -> list[str]:
    return [SCORE + name for name in names]


def seen_rollouts(data: Any, size: int) -> list[Sequence[dict[str, Any]]]:
    """All rollouts of each row's prompt, as ``agent_loop.RoundsWorker`` left them; empty for a prompt sampled once."""
    if "extra_fields" not in data:
        return [()] * size
    return [_plain(item).get(SEEN, ()) for item in data["extra_fields"]]


def _truncated(data: Any) -> list[bool | None]:
    """Of each row, as ``agent_loop.SeededAgentLoopWorker`` left it; None: another agent loop, which doesn't say."""
    return [_plain(item).get(TRUNCATED) for item in data["extra_fields"]]


def _plain(value: Any) -> Any:
    """verl's non-tensor fields come wrapped or bare, by TransferQueue backend; numbers also as 0-d arrays."""
    if isinstance(value, NonTensorData):
        value = value.data
    return value.item() if isinstance(value, torch.Tensor | np.generic | np.ndarray) else value


def texts(data: TensorDict, rows: Sequence[int], decoder: ResponseDecoder) -> list[RolloutText]:
    """What those rows hold, for a person to read; a response is the text that its rewards have seen."""
    prompts, responses = _ragged(data, "prompts"), _ragged(data, "responses")
    truths, extras = list(data["reward_model"]), list(data["extra_fields"])

    @cache
    def prompt(ids: tuple[int, ...]) -> str:  # once for all rollouts of one
        return str(decoder.tokenizer.decode(ids, skip_special_tokens=True))

    def response(row: int) -> str:
        seen = _plain(extras[row]).get(RESPONSE)
        return decoder(responses[row].tolist()) if seen is None else seen

    return [
        RolloutText(
            prompt(tuple(prompts[row].tolist())), response(row), truths[row]["ground_truth"], len(responses[row])
        )
        for row in rows
    ]


def validation_rows(batch: KVBatchMeta, names: Sequence[str], decoder: ResponseDecoder) -> list[ValidationRow]:
    """The rows of a batch of validation prompts. Raises RuntimeError if TransferQueue lacks some."""
    fields = ["prompts", "responses", "reward_model", "data_source", "raw_prompt", "extra_fields"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=VALIDATION, select_fields=fields)
    if len(data) != len(batch.keys):
        raise RuntimeError(f"TransferQueue returned {len(data)} of the {len(batch.keys)} rows of a validation")
    columns = (list(map(_plain, data[name])) for name in ("raw_prompt", "reward_model", "data_source"))
    prompts = [
        PromptContent(list(chat), reward["ground_truth"], source) for chat, reward, source in zip(*columns, strict=True)
    ]
    decoded = texts(data, range(len(data)), decoder)
    components = row_components(data, names, len(data))
    return list(map(ValidationRow, batch.keys, prompts, decoded, components, _truncated(data)))


def write(
    batch: KVBatchMeta,
    data: TensorDict,
    rollouts: Rollouts,
    advantages_N: torch.Tensor,
    keep_N: torch.Tensor,
    modulation: TokenModulation | None = None,
) -> KVBatchMeta:
    """Write each row's advantage to its tokens, once; rollouts that leave the loss lose their mask.

    Every output of a rollout gets the rollout's advantage, padding rows get 0. If nothing is kept, the masks stay:
    all advantages are 0 then, and a loss over no tokens is not a number.

    ``modulation`` works on the old policy's entropies and log-probabilities, which the trainer has of the whole batch:
    the maxima are the batch's, however it is split over ranks and micro-batches. With one update a step that is
    DynaMO's own rule (the ratio is 1); in later updates of the same batch the factors stay those of the first.
    """
    nested_mask: Any = data["response_mask"]
    mask_S, lengths_M = nested_mask.values(), nested_mask.offsets().diff()
    rollout_of_M = rollouts.rollout_of_M
    real_M = rollout_of_M >= 0
    advantages_M = torch.where(real_M, advantages_N.float()[rollout_of_M], 0.0)
    keep_M = torch.where(real_M, keep_N[rollout_of_M], True)
    if modulation is None:
        advantages = _ragged_like(nested_mask, write_ragged(advantages_M, mask_S, lengths_M))
    else:
        mask_MT = nested_mask.to_padded_tensor(0)
        advantages_MT = write_tokens(advantages_M, mask_MT)
        entropy_MT, logp_MT = (cast(torch.Tensor, data[f]).to_padded_tensor(0.0) for f in ("entropy", "old_log_probs"))
        advantages_MT = modulate_tokens(advantages_MT, entropy_MT, logp_MT, logp_MT, mask_MT, modulation)
        advantages = response_to_nested(advantages_MT, nested_mask)
    fields = {"advantages": advantages, "returns": advantages}
    if not bool(keep_M.all()) and bool(keep_N.any()):
        kept_S = write_ragged(keep_M, mask_S, lengths_M, dtype=mask_S.dtype)
        fields["response_mask"] = fields["loss_mask"] = _ragged_like(nested_mask, kept_S)
    return tq.kv_batch_put(keys=batch.keys, partition_id=PARTITION, fields=TensorDict(fields, batch_size=len(batch)))


def correct_rollouts(batch: KVBatchMeta, data: TensorDict, config: Any) -> dict[str, Any]:
    """verl's importance correction between rollout engine and trainer, where ``algorithm.rollout_correction`` asks for
    it: changes ``data["response_mask"]`` (rejection) and writes the weights. Returns its metrics."""
    correction = config.algorithm.get("rollout_correction", None)
    if correction is None or correction.get("bypass_mode", False) or "rollout_log_probs" not in data:
        return {}
    mask = data["response_mask"]
    padded = DataProto(batch=data.select("response_mask", "rollout_log_probs", "old_log_probs").to_padded_tensor())
    padded, metrics = compute_rollout_correction_and_add_to_batch(padded, correction)
    data["response_mask"] = response_to_nested(padded.batch["response_mask"], mask)
    fields = {"response_mask": data["response_mask"]}
    if "rollout_is_weights" in padded.batch:
        fields["rollout_is_weights"] = response_to_nested(padded.batch["rollout_is_weights"], mask)
    tq.kv_batch_put(keys=batch.keys, partition_id=PARTITION, fields=TensorDict(fields, batch_size=len(batch)))
    return metrics
