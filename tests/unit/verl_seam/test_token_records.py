"""What is recorded of single tokens is what the update is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrpo.advantages import write_tokens
from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.verl_seam.rank_rows import ADVANTAGE
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.token_records import tokens_of

pytestmark = pytest.mark.unit
TOKENIZER = byte_tokenizer([])


def columns(**more: Any) -> dict[str, Any]:
    """Two rows: a tool has written the second token of the first, and the second has left the loss."""
    ids = [TOKENIZER.encode("abc"), TOKENIZER.encode("de")]
    return {
        "responses": [torch.tensor(of) for of in ids],
        "old_log_probs": [torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-4.0, -5.0])],
        "response_mask": [torch.tensor([1, 0, 1]), torch.tensor([1, 1])],
        ADVANTAGE: [torch.tensor([-0.5, 1.0]), torch.tensor([0.25, 0.0])],
        **more,
    }


def test_a_row_gives_its_advantage_to_its_tokens_in_the_loss() -> None:
    first, second = (tokens_of(columns(), place, ResponseDecoder(TOKENIZER)) for place in (0, 1))
    assert (first.pieces, first.log_probs) == (["a", "b", "c"], [-1.0, -2.0, -3.0])
    assert (first.advantages, first.in_loss) == ([-0.5, 0.0, -0.5], [True, False, True])
    assert torch.tensor([first.advantages]).equal(
        write_tokens(torch.tensor([-0.5]), torch.tensor([[1, 0, 1]])) + 0.0
    )  # as the ranks spread it
    assert (second.advantages, second.in_loss) == ([0.0, 0.0], [False, False])


def test_modulated_advantages_are_each_tokens_own() -> None:
    modulated = [torch.tensor([-0.75, 0.0, -0.25]), torch.tensor([0.125, 0.25])]
    first, second = (tokens_of(columns(advantages=modulated), n, ResponseDecoder(TOKENIZER)) for n in (0, 1))
    assert first.advantages == [-0.75, 0.0, -0.25]
    assert second.advantages == [0.0, 0.0]
