"""The step from a batch's rewards to the advantages that its tokens get. Shapes: M rows, N rollouts, K rewards."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.workers.utils.padding import response_to_nested

from mrpo.advantages import modulate_tokens, write_tokens
from mrpo.config.advantage import TokenModulation
from mrpo.step.rollouts import RolloutRows, Row, RowKey, row_components, row_seen, select_rollouts

PARTITION = "train"
FIELDS = ("uid", "response_mask", "extra_fields", "prompts", "responses", "reward_model")


def _rows(data: TensorDict, field: str) -> list[torch.Tensor]:
    """The M rows of a ragged field."""
    return list(cast(torch.Tensor, data[field]).unbind())


def fetch(batch: KVBatchMeta, names: tuple[str, ...]) -> TensorDict:
    """The fields that advantages and the rollout log need. TransferQueue drops unknown keys with a mere warning."""
    fields = [*FIELDS, *names, "rollout_log_probs", "old_log_probs", "entropy"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=PARTITION, select_fields=fields)
    if len(data) != len(batch.keys):
        raise RuntimeError(f"TransferQueue returned {len(data)} of the {len(batch.keys)} rows of this step")
    return data


def rollouts_of(batch: KVBatchMeta, data: TensorDict, names: tuple[str, ...]) -> RolloutRows:
    """The batch's rollouts, after checking that TransferQueue's rows are in the order of its keys."""
    uids = list(data["uid"])
    for key, uid in zip(batch.keys, uids, strict=True):
        if RowKey.parse(key).uid != str(uid):
            raise RuntimeError(f"row {key} holds the data of prompt {uid}: rows are mixed up")
    lengths = [int(mask.sum()) for mask in _rows(data, "response_mask")]
    components, seen = row_components(data, names, len(data)), row_seen(data, len(data))
    padding = [bool(tag.get("is_padding", False)) for tag in batch.tags]
    rows = map(Row, batch.keys, components, lengths, padding, seen)
    return select_rollouts(list(rows), names)


def too_many_failures(rows: RolloutRows, names: tuple[str, ...], most: float) -> str | None:
    """Which reward failed in more than the share ``most`` of the rollouts, or in all of them, and why; None: none."""
    for name in names:
        causes = [failures[name] for failures in rows.failures if name in failures]
        if causes and (len(causes) > most * len(rows.keys) or len(causes) == len(rows.keys)):
            often = Counter(causes).most_common(1)[0][0]
            return (
                f"reward {name!r} failed in {len(causes)} of {len(rows.keys)} rollouts, more than "
                f"scoring.most_failures={most:g} allows. Most often: {often}"
            )
    return None


def write(
    batch: KVBatchMeta,
    data: TensorDict,
    rows: RolloutRows,
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
    nested_mask = cast(torch.Tensor, data["response_mask"])
    mask_MT = nested_mask.to_padded_tensor(0)
    rollout_of_M = rows.rollout_of_M
    real_M = rollout_of_M >= 0
    advantages_M = torch.where(real_M, advantages_N.float()[rollout_of_M], 0.0)
    keep_M = torch.where(real_M, keep_N[rollout_of_M], True)
    advantages_MT = write_tokens(advantages_M, mask_MT)
    if modulation is not None:
        entropy_MT, logp_MT = (cast(torch.Tensor, data[f]).to_padded_tensor(0.0) for f in ("entropy", "old_log_probs"))
        advantages_MT = modulate_tokens(advantages_MT, entropy_MT, logp_MT, logp_MT, mask_MT, modulation)
    fields = {"advantages": response_to_nested(advantages_MT, nested_mask)}
    fields["returns"] = fields["advantages"]
    if not bool(keep_M.all()) and bool(keep_N.any()):
        kept = response_to_nested(mask_MT * keep_M[:, None], nested_mask)
        fields["response_mask"] = fields["loss_mask"] = kept
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


def reward_metrics(rows: RolloutRows, names: tuple[str, ...]) -> dict[str, float]:
    """Mean and standard deviation of each reward over the rollouts that have its score, and the shares without."""
    metrics: dict[str, float] = {}
    for column, name in enumerate(names):
        values = rows.rewards_NK[:, column]
        scored = values[~values.isnan()]
        causes = [failures[name].partition(":")[0] for failures in rows.failures if name in failures]
        metrics[f"reward/{name}/mean"] = float(scored.mean()) if len(scored) else math.nan
        metrics[f"reward/{name}/std"] = float(scored.std(unbiased=False)) if len(scored) else math.nan
        metrics[f"reward/{name}/failed_share"] = len(causes) / len(values)
        metrics |= {f"reward/{name}/failed/{cause}": n for cause, n in Counter(causes).items()}
        metrics[f"reward/{name}/missing_share"] = 1 - len(scored) / len(values)
    return metrics


def log_rows(
    rows: RolloutRows,
    data: TensorDict,
    advantages_N: torch.Tensor,
    keep_N: torch.Tensor,
    names: tuple[str, ...],
    tokenizer: Any,
) -> list[dict[str, Any]]:
    """One record a rollout for the run folder: text, every component, advantage."""
    records = []
    truths = list(data["reward_model"])
    selected = rows.selected_N.nonzero().flatten().tolist()
    chosen = rows.row_of_N[selected].tolist()
    prompt_ids, response_ids = _rows(data, "prompts"), _rows(data, "responses")
    prompts = tokenizer.batch_decode([prompt_ids[row] for row in chosen], skip_special_tokens=True)
    responses = tokenizer.batch_decode([response_ids[row] for row in chosen], skip_special_tokens=True)
    for i, (n, row) in enumerate(zip(selected, chosen, strict=True)):
        key, scores = rows.keys[n], rows.rewards_NK[n].tolist()
        record = {
            "uid": key.uid,
            "sample": key.session,
            "prompt": prompts[i],
            "response": responses[i],
            "ground_truth": truths[row]["ground_truth"],
            "rewards": {name: None if math.isnan(s) else s for name, s in zip(names, scores, strict=True)},
            "advantage": float(advantages_N[n]),
            "keep": bool(keep_N[n]),
            "tokens": len(response_ids[row]),
        }
        if rows.failures[n]:
            record["failures"] = rows.failures[n]
        records.append(record)
    return records
