"""A rollout's advantage goes to its tokens in the loss, padded and ragged alike. Shapes: N rollouts, S tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrpo.advantages import token_counts, write_ragged, write_tokens

pytestmark = pytest.mark.unit


def test_tokens_are_written_once_from_the_mask() -> None:
    mask_NT = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    tokens_NT = write_tokens(torch.tensor([0.5, 2.0, -1.0]), mask_NT)
    assert tokens_NT.tolist() == [[0.5, 0.5, 0], [0, 0, 0], [-1, 0, -1]]
    assert torch.equal(write_tokens(torch.tensor([0.5, 2.0, -1.0]), mask_NT.bool()), tokens_NT)
    assert token_counts(mask_NT).tolist() == [2, 0, 2]


@given(st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=6))
def test_ragged_tokens_are_those_of_the_padded_tensor(masks: list[list[bool]]) -> None:
    lengths_N = torch.tensor([len(mask) for mask in masks])
    mask_S = torch.tensor([token for mask in masks for token in mask], dtype=torch.int64)
    advantages_N = torch.arange(1, len(masks) + 1) / 4
    padded_NT = torch.zeros(len(masks), 6, dtype=torch.int64)
    for row, mask in zip(padded_NT, masks, strict=True):
        row[: len(mask)] = torch.tensor(mask, dtype=torch.int64)
    tokens_NT = write_tokens(advantages_N, padded_NT)
    expected_S = [value for row, mask in zip(tokens_NT, masks, strict=True) for value in row[: len(mask)].tolist()]
    assert write_ragged(advantages_N, mask_S, lengths_N).tolist() == expected_S


def test_ragged_lengths_that_are_not_the_masks_are_refused() -> None:
    for lengths in ([2, 1], [4], [1, 1, 2]):
        with pytest.raises(ValueError, match="lengths_N: given shape"):
            write_ragged(torch.tensor([0.5, -1.0]), torch.ones(4), torch.tensor(lengths))
