"""Tokens get what their rollout gets: in pieces as at once, whether a mask was read or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta

from mrpo.advantages import modulate_tokens, write_tokens
from mrpo.advantages.token_modulation import token_maxima
from mrpo.rewards.wire import LOSS_LENGTH
from mrpo.step.importance import WeightSums
from mrpo.step.policy_sums import PolicySums
from mrpo.verl_seam import token_rows
from mrpo.verl_seam.rows import VerlBatch, pieces

pytestmark = pytest.mark.unit


def batch(lengths: list[int], masks: dict[int, list[int]] | None = None, **tags: Any) -> VerlBatch:
    masks = masks or {}
    of_rows = [
        {"response_len": length, LOSS_LENGTH: sum(masks.get(row, [1] * length)), **tags}
        for row, length in enumerate(lengths)
    ]
    meta = KVBatchMeta([f"u_{row}_0" for row in range(len(lengths))], of_rows, "train")
    return VerlBatch(meta, {}, masks={row: torch.tensor(mask).bool() for row, mask in masks.items()})


def test_tokens_outside_the_loss_are_not_counted() -> None:
    some = batch([3, 4, 2], {1: [1, 0, 0, 1]})
    token_rows.count_tokens(some)
    assert some.tokens_M == [3, 2, 2]


def test_masks_are_not_read_where_the_ranks_have_counted() -> None:
    some = batch([3, 4])
    some.masks, some.sums = None, PolicySums.of(torch.full((2, len(PolicySums._fields)), 2.0))
    token_rows.count_tokens(some)
    assert some.tokens_M == [2, 2]
    assert some.masks is None


def test_masks_are_read_of_rows_with_tokens_outside_the_loss_and_of_those_that_do_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[list[int]]()

    def fetch(handle: KVBatchMeta, fields: list[str], rows: list[int]) -> dict[str, list[torch.Tensor]]:
        asked.append(list(rows))
        return {"response_mask": [torch.zeros(handle.tags[row]["response_len"], dtype=torch.int64) for row in rows]}

    monkeypatch.setattr(token_rows, "fetch", fetch)
    some = batch([3, 4, 2, 1, 5], {1: [1, 0, 0, 1]})
    del some.handle.tags[2][LOSS_LENGTH]  # of another agent loop
    some.handle.tags[3]["is_padding"] = True  # its tag is a copy of a real row's, but for its lengths
    masks = token_rows.fetch_masks(some.handle)
    assert asked == [[1, 2, 3]]
    assert {row: len(mask) for row, mask in masks.items()} == {1: 4, 2: 2, 3: 1}


def test_a_mask_of_rows_is_made_only_where_one_of_them_has_one() -> None:
    some = batch([3, 4, 2], {1: [1, 0, 0, 1]})
    lengths_M = token_rows.response_lengths(some.handle)
    assert token_rows.mask_of(some, [0, 2], lengths_M) is None
    assert token_rows.mask_of(some, [2, 1], lengths_M).int().tolist() == [1, 1, 1, 0, 0, 1]  # type: ignore[union-attr]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), tokens=st.integers(1, 200))
def test_rows_that_are_padded_together_are_all_rows_and_small(lengths: list[int], tokens: int) -> None:
    groups = token_rows.by_length(torch.tensor(lengths), tokens)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[row] for row in group) <= tokens for group in groups)


@settings(deadline=None)
@given(size=st.integers(0, 50), piece=st.integers(1, 20))
def test_pieces_are_all_rows_in_order(size: int, piece: int) -> None:
    assert [row for some in pieces(range(size), piece) for row in some] == list(range(size))


def test_tokens_are_modulated_in_parts_as_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 9, 3, 7]
    masks = {2: [1, 1, 0, 0, 0, 1, 1, 0, 1], 3: [0, 0, 0]}
    some = batch(lengths, masks)
    lengths_M, advantages_M = token_rows.response_lengths(some.handle), torch.randn(5, generator=generator)
    entropy = [torch.rand(length, generator=generator) for length in lengths]
    logp = [-torch.rand(length, generator=generator) for length in lengths]

    def arrays(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        of_policy = (torch.cat([of[row] for row in rows]) for of in (entropy, logp))
        return token_rows._padded(some, rows, lengths_M, advantages_M, *of_policy)

    everything = list(range(5))
    whole_MT = modulate_tokens(*arrays(everything))
    mask_MT = arrays(everything)[4]
    assert torch.equal(mask_MT[2].int(), torch.tensor(masks[2]).int())
    assert mask_MT.sum() == 5 + 1 + 5 + 0 + 7
    assert not torch.allclose(whole_MT, write_tokens(advantages_M, mask_MT))
    maxima = None
    parts = token_rows.by_length(lengths_M, 12)
    for rows in parts:
        maxima = token_maxima(*arrays(rows), None, maxima)
    assert len(parts) > 2
    for rows in parts:
        part_RT = modulate_tokens(*arrays(rows), None, maxima)
        for row, values_T in zip(rows, part_RT, strict=True):
            torch.testing.assert_close(values_T[: lengths[row]], whole_MT[row, : lengths[row]], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        ({"rollout_is": "token", "rollout_is_threshold": 2.0}, 2.0),
        ({"rollout_is": "token", "rollout_is_threshold": "0.5_5"}, "0.5_5"),
        ({"rollout_is": "token", "rollout_is_threshold": 2.0, "rollout_is_batch_normalize": True}, None),
        ({"rollout_is": "token", "rollout_is_threshold": 2.0, "rollout_rs": "token_k1"}, None),
        ({"rollout_is": "token", "rollout_is_threshold": 2.0, "bypass_mode": True}, None),
        ({"rollout_is": "sequence", "rollout_is_threshold": 2.0}, None),
        ({"rollout_is": None, "rollout_is_threshold": 2.0}, None),
        (None, None),
    ],
)
def test_ranks_weigh_tokens_where_no_rule_looks_at_more_than_one(rule: Any, threshold: Any) -> None:
    config = OmegaConf.create({"algorithm": {"rollout_correction": rule}})
    assert token_rows.weight_threshold(config) == threshold


def test_metrics_of_weights_that_ranks_have_left_need_no_token() -> None:
    """No row of this batch can be read."""
    tokens = torch.tensor([2.0, 1.0])
    ones = torch.ones(2)
    sums = PolicySums(*(tokens if name == "tokens" else ones for name in PolicySums._fields))
    batch = VerlBatch(KVBatchMeta(keys=["a_0_0", "a_1_0"], tags=[{}, {}]), {}, sums=sums)
    batch.weight_sums = WeightSums(*(ones for _ in WeightSums._fields))
    rule = {"rollout_is": "token", "rollout_is_threshold": 2.0}
    metrics = token_rows.correct_rollouts(batch, OmegaConf.create({"algorithm": {"rollout_correction": rule}}))
    assert metrics["rollout_corr/rollout_is_mean"] == pytest.approx(2 / 3)
    assert metrics["rollout_corr/kl"] == pytest.approx(-2 / 3)
    batch.weight_sums = None  # engines that don't say how they sampled
    metrics = token_rows.correct_rollouts(batch, OmegaConf.create({"algorithm": {"rollout_correction": rule}}))
    assert not any("rollout_is" in name for name in metrics)
