"""What the tokens of a batch's rows get in verl's TransferQueue: their advantage, in or out of the loss. Shapes: M
rows, N rollouts, T tokens of each, S tokens of a piece's rows, one row after another.

A row gets one number, which the trainer ranks give to its tokens (``rank_rows``). Only what looks at all tokens of a
batch at once, token modulation and most rules of ``rollout_correction``, goes through the controller token by token:
ragged, and a piece of the rows at a time. A row's mask is read only if some of its tokens are outside the loss, which
its tag says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.workers.utils.padding import response_to_nested

from mrpo.advantages import modulate_tokens, write_tokens
from mrpo.advantages.token_modulation import token_maxima
from mrpo.config.advantage import TokenModulation
from mrpo.rewards.wire import LOSS_LENGTH
from mrpo.step.importance import Threshold, weight_metrics
from mrpo.step.policy_sums import entropy, off_policy, probs_diff
from mrpo.step.rollouts import Rollouts
from mrpo.step.token_advantages import TokenAdvantages
from mrpo.verl_seam.columns import PIECE, add
from mrpo.verl_seam.rank_rows import ADVANTAGE
from mrpo.verl_seam.rows import PARTITION, VerlBatch, fetch, is_padding, pieces

PADDED = 2**19
"""Tokens that are modulated at a time, padding included: rows of about the same length together."""


def response_lengths(batch: KVBatchMeta) -> torch.Tensor:
    """Tokens of each of the M rows' responses, int64."""
    return torch.tensor([tag["response_len"] for tag in batch.tags], dtype=torch.int64)


def fetch_masks(batch: KVBatchMeta) -> dict[int, torch.Tensor]:
    """``VerlBatch.masks``: a tool's text, padding rows, and rows that don't say how many of their tokens count."""
    rows = [
        row for row, tag in enumerate(batch.tags) if is_padding(tag) or tag.get(LOSS_LENGTH, -1) != tag["response_len"]
    ]
    masks: dict[int, torch.Tensor] = {}
    for some in pieces(rows):
        masks |= zip(
            some, (mask.bool() for mask in fetch(batch, ["response_mask"], some)["response_mask"]), strict=True
        )
    return masks


def policy_metrics(batch: VerlBatch, actor: Any) -> dict[str, Any]:
    """From ``batch.sums``, by verl's names. ``actor``: verl's settings of it."""
    assert batch.sums is not None
    longest = actor.get("loss_scale_factor") or max(tag["response_len"] for tag in batch.handle.tags)
    return {"actor/entropy": entropy(batch.sums, actor.loss_agg_mode, longest), **probs_diff(batch.sums)}


def count_tokens(batch: VerlBatch) -> None:
    """Set ``tokens_M``: from the masks where they were read, else from what the ranks have left, else they are read."""
    if batch.masks is None and batch.sums is not None:
        batch.tokens_M = batch.sums.tokens.long().tolist()
        return
    masks = read_masks(batch)
    batch.tokens_M = [
        int(masks[row].sum()) if row in masks else tag["response_len"] for row, tag in enumerate(batch.handle.tags)
    ]


def read_masks(batch: VerlBatch) -> dict[int, torch.Tensor]:
    """``VerlBatch.masks``, read where nobody has."""
    if batch.masks is None:
        batch.masks = fetch_masks(batch.handle)
    return batch.masks


def write(
    batch: VerlBatch,
    rollouts: Rollouts,
    advantages_N: torch.Tensor,
    keep_N: torch.Tensor,
    modulation: TokenModulation | None = None,
) -> None:
    """Write each row's advantage, and whether its tokens stay in the loss: rollouts that leave it lose their mask.

    Every output of a rollout gets the rollout's advantage, padding rows get 0. If nothing is kept, the masks stay:
    all advantages are 0 then, and a loss over no tokens is not a number.

    ``modulation`` works on the old policy's entropies and log-probabilities, which the trainer has of the whole batch:
    the maxima are the batch's, however it is split over ranks and micro-batches. With one update a step that is
    DynaMO's own rule (the ratio is 1); in later updates of the same batch the factors stay those of the first.
    """
    rollout_of_M = rollouts.rollout_of_M
    real_M = rollout_of_M >= 0
    advantages_M = torch.where(real_M, advantages_N.float()[rollout_of_M], 0.0)
    kept_N = keep_N.bool() if bool(keep_N.any()) else torch.ones_like(keep_N, dtype=torch.bool)
    keep_M = torch.where(real_M, kept_N[rollout_of_M], True)
    if modulation is None:
        batch.advantages = TokenAdvantages.of(advantages_M, torch.tensor(batch.tokens_M) * keep_M)
    else:
        batch.advantages = _modulated(batch, advantages_M, keep_M, modulation)
    of_rows_M2 = torch.stack((advantages_M, keep_M.float()), dim=1)
    batch.handle.fields = _put(batch.handle, range(len(of_rows_M2)), {ADVANTAGE: of_rows_M2})


def mask_of(batch: VerlBatch, rows: Sequence[int], lengths_M: torch.Tensor) -> torch.Tensor | None:
    """bool[S] of these rows, one after another; None: all of their tokens are in the loss."""
    masks = read_masks(batch)
    if not any(row in masks for row in rows):
        return None
    return torch.cat([masks[row] if row in masks else torch.ones(int(lengths_M[row])).bool() for row in rows])


def _ragged(values_S: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return torch.nested.nested_tensor_from_jagged(values_S, offsets)


def _put(batch: KVBatchMeta, rows: Sequence[int], fields: Mapping[str, torch.Tensor]) -> list[str]:
    """Returns the names of all fields that the rows have then."""
    return add(PARTITION, [batch.keys[row] for row in rows], fields)


def _modulated(
    batch: VerlBatch, advantages_M: torch.Tensor, keep_M: torch.Tensor, settings: TokenModulation
) -> TokenAdvantages:
    """Write each token's advantage, modulated. Rows of about the same length are padded together, so that padding is
    next to nothing; of the whole batch only entropies and log-probabilities are held."""
    lengths_M, found = response_lengths(batch.handle), TokenAdvantages()
    held, maxima = [], None
    for rows in by_length(lengths_M, PADDED):
        columns = fetch(batch.handle, ["entropy", "old_log_probs"], rows)
        of_policy = torch.cat(columns["entropy"]), torch.cat(columns["old_log_probs"])
        held.append((rows, of_policy))
        maxima = token_maxima(*_padded(batch, rows, lengths_M, advantages_M, *of_policy), settings, maxima)
    for rows, of_policy in held:
        inputs = _padded(batch, rows, lengths_M, advantages_M, *of_policy)
        values_RT, lengths = modulate_tokens(*inputs, settings, maxima), lengths_M[rows]
        advantages = _ragged(values_RT[_within(lengths)], lengths)
        _put(batch.handle, rows, {"advantages": advantages, "returns": advantages})
        found |= TokenAdvantages.of(values_RT.flatten(), (inputs[-1] & keep_M[rows, None]).flatten())
    return found


def _padded(
    batch: VerlBatch,
    rows: Sequence[int],
    lengths_M: torch.Tensor,
    advantages_M: torch.Tensor,
    entropy_S: torch.Tensor,
    logp_S: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The arrays of ``modulate_tokens``, a row for each of ``rows``."""
    lengths = lengths_M[list(rows)]
    within_RT, mask_S = _within(lengths), mask_of(batch, rows, lengths_M)
    mask_RT = within_RT if mask_S is None else torch.zeros_like(within_RT).masked_scatter_(within_RT, mask_S)
    entropy_RT, logp_RT = (torch.zeros(within_RT.shape).masked_scatter_(within_RT, v) for v in (entropy_S, logp_S))
    return write_tokens(advantages_M[list(rows)], mask_RT), entropy_RT, logp_RT, logp_RT, mask_RT


def _within(lengths: torch.Tensor) -> torch.Tensor:
    """True (R,T) where a row has a token."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def by_length(lengths_M: torch.Tensor, tokens: int) -> list[list[int]]:
    """All rows, those of similar length together: as many as have so many tokens when padded to the longest of them.

    >>> by_length(torch.tensor([3, 1, 8, 2, 3]), tokens=9)
    [[1, 3, 0], [4], [2]]
    """
    groups: list[list[int]] = []
    lengths = lengths_M.tolist()
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= tokens and len(groups[-1]) < PIECE:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def weight_threshold(config: Any) -> Threshold | None:
    """By which the ranks can weigh the tokens of their rows by themselves; None: there are no weights, or a rule that
    looks at more than a token."""
    correction = config.algorithm.get("rollout_correction", None) or {}
    alone = correction.get("rollout_is") == "token" and not correction.get("rollout_is_batch_normalize", False)
    if not alone or correction.get("rollout_rs") is not None or correction.get("bypass_mode", False):
        return None
    threshold: Threshold | None = correction.get("rollout_is_threshold")
    return threshold


def correct_rollouts(batch: VerlBatch, config: Any) -> dict[str, Any]:
    """verl's importance correction between rollout engine and trainer (``algorithm.rollout_correction``). Returns its
    metrics. Without a rule, as by default, there is nothing else to it, and weights of single tokens lie there already
    (``weight_threshold``). Another rule for weights, and one for rejection, writes them and changes the masks: verl's
    function does that, on the whole batch, padded."""
    correction, handle = config.algorithm.get("rollout_correction", None), batch.handle
    if correction is None or correction.get("bypass_mode", False):
        return {}
    threshold = weight_threshold(config)
    if threshold is not None or (correction.get("rollout_is") is None and correction.get("rollout_rs") is None):
        found = {} if batch.sums is None else off_policy(batch.sums)
        if threshold is not None and batch.weight_sums is not None and batch.sums is not None:
            found |= weight_metrics(batch.weight_sums, batch.sums.tokens, threshold)
        return {f"rollout_corr/{name}": value for name, value in found.items()}
    fields = ["response_mask", "rollout_log_probs", "old_log_probs"]
    data = tq.kv_batch_get(keys=handle.keys, partition_id=PARTITION, select_fields=fields)
    if "rollout_log_probs" not in data:
        return {}
    mask: Any = data["response_mask"]
    padded = DataProto(batch=data.to_padded_tensor())
    padded, metrics = compute_rollout_correction_and_add_to_batch(padded, correction)
    corrected = {"response_mask": response_to_nested(padded.batch["response_mask"], mask)}
    if "rollout_is_weights" in padded.batch:
        corrected["rollout_is_weights"] = response_to_nested(padded.batch["rollout_is_weights"], mask)
    add(PARTITION, handle.keys, corrected)
    batch.masks = {row: of.bool() for row, of in enumerate(corrected["response_mask"].unbind())}
    return metrics
