"""How the controller asks its trainer ranks for what ``rank_rows`` makes of their rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta

from mrpo.step.importance import Threshold, WeightSums
from mrpo.step.policy_sums import PolicySums
from mrpo.verl_seam.rank_rows import OF_RESPONSES, POLICY, REFERENCE, SUMS, THRESHOLD, WEIGHT_SUMS, for_ranks
from mrpo.verl_seam.rows import VerlBatch, fetch


def field_names(batch: KVBatchMeta) -> list[str]:
    """The fields of a batch's rows, which all have the same."""
    if batch.fields is None:
        batch.fields = tq.get_client().kv_retrieve_meta([batch.keys[0]], str(batch.partition_id)).field_names
    return list(batch.fields)


def sent_to_ranks(batch: KVBatchMeta, **more: Any) -> KVBatchMeta:
    """The batch as the ranks get it: without what none of them reads. ``more`` goes along."""
    sent = copy.copy(batch)
    sent.fields, sent.extra_info = for_ranks(field_names(batch)), {**(batch.extra_info or {}), **more}
    return sent


def leave_log_probs(ranks: Any, batch: VerlBatch, threshold: Threshold | None = None) -> None:
    """Have the policy's ranks leave the responses' log-probabilities, entropies and ``batch.sums``; with a
    ``threshold`` importance weights and ``batch.weight_sums``, where the engine's log-probabilities were kept."""
    more = {} if threshold is None else {THRESHOLD: threshold}
    _call(ranks.compute_log_prob, batch.handle, calculate_entropy=True, **{OF_RESPONSES: POLICY, **more})
    left = fetch(batch.handle, [SUMS, WEIGHT_SUMS], range(len(batch.handle)))
    batch.sums = PolicySums.of(torch.stack(left[SUMS]))
    if WEIGHT_SUMS in left:
        batch.weight_sums = WeightSums.of(torch.stack(left[WEIGHT_SUMS]))


def leave_reference(trainer: Any, ranks: Any, batch: KVBatchMeta) -> None:
    """Have those that hold the reference policy, the policy's ``ranks`` without their adapter or others, leave its
    log-probabilities of the responses."""
    asked: dict[str, Any] = {"calculate_entropy": False, OF_RESPONSES: REFERENCE}
    if trainer.ref_in_actor:
        _call(ranks.compute_log_prob, batch, **asked, no_lora_adapter=True)
    else:
        _call(trainer.ref_policy_wg.compute_ref_log_prob, batch, **asked)


def _call(compute: Callable[[KVBatchMeta], KVBatchMeta], batch: KVBatchMeta, **more: Any) -> None:
    left = compute(sent_to_ranks(batch, compute_loss=False, **more))
    if len(left) != len(batch):
        raise RuntimeError(f"the trainer ranks have left log-probabilities of {len(left)} of {len(batch)} rows")
    batch.fields = sorted({*field_names(batch), *(left.fields or ())})


@contextmanager
def old_policy(ranks: Any, number: int) -> Iterator[None]:
    """In which the ranks have the policy from before a step's first update, before its mini-batch ``number``."""
    ranks.save_model_to_cpu(number)
    if number:
        ranks.restore_model_from_cpu(0)
    yield
    if number:
        ranks.restore_model_from_cpu(number)
        ranks.clear_cpu_model(number)
