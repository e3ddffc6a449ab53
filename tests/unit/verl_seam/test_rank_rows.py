"""What a rank leaves of its rows is what verl's controller would make of them, and tokens get their row's advantage."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from tensordict import TensorDict

from mrpo.step.importance import WeightSums
from mrpo.step.policy_sums import PolicySums
from mrpo.verl_seam.rank_rows import (
    ADVANTAGE,
    SUMS,
    WEIGHT_SUMS,
    WEIGHTS,
    for_ranks,
    policy_rows,
    reference_rows,
    spread_advantages,
)

pytestmark = pytest.mark.unit

RATIOS = [[-2.0, -3.0, -4.0, -5.0], [0.0], [-1.0, -2.0, -3.0]]
PROMPTS, MASKS = [3, 1, 2], [[1, 1, 0, 1], [1], [1, 0, 1]]


def nested(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def rows_of(data: TensorDict, name: str) -> list[list[float]]:
    field: Any = data[name]
    return [row.tolist() for row in field.unbind()]


def rows_of_a_rank(**more: Any) -> TensorDict:
    mask = nested([torch.tensor(mask) for mask in MASKS])
    fields = {
        "response_mask": mask,
        "loss_mask": mask,
        "rollout_log_probs": nested([-torch.ones(len(m)) for m in MASKS]),
    }
    return TensorDict(fields | more, batch_size=3)


def whole_sequences() -> TensorDict:
    """A value for each position of prompt and response: that of the token which follows it."""
    lengths = [prompt + len(mask) for prompt, mask in zip(PROMPTS, MASKS, strict=True)]
    positions = [torch.arange(length).float() + 1 for length in lengths]
    return TensorDict(
        {"log_probs": nested([-at for at in positions]), "entropy": nested([at / 10 for at in positions])}, batch_size=3
    )


def test_log_probabilities_are_those_of_the_responses_tokens() -> None:
    left = policy_rows(whole_sequences(), rows_of_a_rank())
    assert rows_of(left, "old_log_probs") == [[-3, -4, -5, -6], [-1], [-2, -3, -4]]
    assert [round(sum(row), 4) for row in rows_of(left, "entropy")] == [1.8, 0.1, 0.9]
    sums = PolicySums.of(left[SUMS])
    assert sums.tokens.tolist() == [3, 1, 2]
    assert sums.trainer.tolist() == [-13, -1, -6]
    assert sums.engine.tolist() == [-3, -1, -2]


def test_tokens_are_weighed_if_asked_and_if_the_engine_said_how_it_sampled_them() -> None:
    """A ratio of e^-2 for the first token, and so on: none is above 2, so that only the mask shows."""
    left = policy_rows(whole_sequences(), rows_of_a_rank(), threshold=2.0)
    expected = [torch.tensor(of).exp() * torch.tensor(mask) for of, mask in zip(RATIOS, MASKS, strict=True)]
    for found, row in zip(rows_of(left, WEIGHTS), expected, strict=True):
        assert found == pytest.approx(row.tolist())
    assert WeightSums.of(left[WEIGHT_SUMS]).highest.tolist() == pytest.approx([float(row.max()) for row in expected])
    weights, log_probs = (cast(Any, left[name]) for name in (WEIGHTS, "old_log_probs"))
    assert weights.offsets().tolist() == log_probs.offsets().tolist()
    for asked, data in ((None, rows_of_a_rank()), (2.0, rows_of_a_rank().exclude("rollout_log_probs"))):
        assert not {WEIGHTS, WEIGHT_SUMS} & set(policy_rows(whole_sequences(), data, asked).keys())


def test_the_reference_policy_leaves_nothing_else() -> None:
    left = reference_rows(whole_sequences(), rows_of_a_rank())
    assert list(left.keys()) == ["ref_log_prob"]
    assert rows_of(left, "ref_log_prob")[1] == [-1]


def test_a_row_that_leaves_the_loss_loses_its_mask_and_no_other_does() -> None:
    of_rows = nested([torch.tensor(of) for of in ([0.5, 1.0], [-1.0, 0.0], [2.0, 1.0])])  # as TransferQueue returns it
    data = rows_of_a_rank(**{ADVANTAGE: of_rows})
    spread_advantages(data)
    for name in ("response_mask", "loss_mask"):
        assert rows_of(data, name) == [[1, 1, 0, 1], [0], [1, 0, 1]]
        assert data[name].dtype == torch.int64
    assert rows_of(data, "advantages") == [[0.5, 0.5, 0, 0.5], [-1], [2, 0, 2]]
    assert data["returns"] is not None
    assert ADVANTAGE not in data
    padded = data.select("advantages", "response_mask", "returns").to_padded_tensor()
    assert padded["advantages"].shape == padded["response_mask"].shape == (3, 4)


def test_tokens_that_have_an_advantage_keep_it() -> None:
    own = nested([torch.rand(len(mask)) for mask in MASKS])
    data = rows_of_a_rank(**{ADVANTAGE: torch.ones(3, 2), "advantages": own, "returns": own})
    spread_advantages(data)
    assert rows_of(data, "advantages") == [row.tolist() for row in own.unbind()]
    assert rows_of(data, "response_mask") == MASKS


def test_ranks_are_not_sent_what_only_the_controller_reads() -> None:
    assert for_ranks(["uid", "input_ids", "extra_fields", "rm_scores", "ref_log_prob"]) == ["input_ids", "ref_log_prob"]
