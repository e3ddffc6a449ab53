"""Tags and sums of rows give verl's metrics of padded arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import compute_data_metrics, compute_timing_metrics

from mrpo.record.metrics import rename
from mrpo.rewards.wire import LOSS_LENGTH, REWARD, TURNS
from mrpo.step.token_advantages import TokenAdvantages
from mrpo.verl_seam import step_metrics as module
from mrpo.verl_seam.rows import VerlBatch
from mrpo.verl_seam.step_metrics import step_metrics

pytestmark = pytest.mark.unit

LENGTHS, PROMPTS = [5, 1, 9, 0, 3, 2], [2, 7, 3, 4, 4, 2]
SCORES, TURNS_M = [1.0, 0.5, -2.0, 9.0, 0.25, 0.0], [2, 2, 2, 2, 2, 8]
COUNTED, ADVANTAGES = [4, 0, 9, 0, 3, 0], torch.tensor([0.5, 7.0, -1.25, 3.0, 2.0, 0.0])
TIMINGS = {"step": 4.0, "gen": 1.5, "update_actor": 2.0}


def part(rows: list[int]) -> VerlBatch:
    """The last of all rows is padding."""
    tags = [
        {"prompt_len": PROMPTS[m], "response_len": LENGTHS[m], "min_global_steps": 1, "max_global_steps": 2 + m % 2}
        | {REWARD: SCORES[m], TURNS: TURNS_M[m], "is_padding": m == 5}
        for m in rows
    ]
    advantages = TokenAdvantages.of(ADVANTAGES[rows], torch.tensor(COUNTED)[rows])
    return VerlBatch(KVBatchMeta([f"u_{m}_0" for m in rows], tags, "train"), {}, advantages=advantages)


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def verl() -> DataProto:
    real = range(5)
    masks = [torch.arange(LENGTHS[m]) < COUNTED[m] for m in real]
    at_end = [torch.nn.functional.pad(torch.tensor([SCORES[m]]), (max(0, LENGTHS[m] - 1), 0)) for m in real]
    advantages = padded([ADVANTAGES[m] * mask for m, mask in enumerate(masks)])
    arrays: dict[str, Any] = {
        "token_level_scores": padded(at_end), "token_level_rewards": padded(at_end), "advantages": advantages,
        "returns": advantages, "response_mask": padded(masks), "responses": torch.zeros(5, max(LENGTHS)),
        "prompts": torch.zeros(5, max(PROMPTS)), "prompt_length": torch.tensor(PROMPTS[:5]).float(),
        "response_length": torch.tensor(LENGTHS[:5]).float(),
    }  # fmt: skip
    return DataProto.from_dict(arrays, non_tensors={"__num_turns__": np.array(TURNS_M[:5])})


def test_several_batches_of_a_step_have_verls_metrics_of_their_rows_without_padding() -> None:
    found = rename(step_metrics([part([0, 2, 5]), part([1, 3, 4])], TIMINGS, 4, 2))
    expected = rename(compute_data_metrics(verl(), use_critic=False))
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    per_token = {name for name in found if name.startswith("advantage/per_token/")}
    assert len(per_token) == 3


def test_throughput_counts_padding_and_all_devices() -> None:
    found = step_metrics([part([0, 2, 5]), part([1, 3, 4])], TIMINGS, 4, 2)
    tokens = sum(LENGTHS) + sum(PROMPTS)
    assert found["perf/total_num_tokens"] == tokens
    assert found["perf/throughput"] == tokens / (4.0 * 2)
    assert found["timing_s/gen"] == 1.5
    assert found["timing_per_token_ms/gen"] == 1.5 * 1000 / sum(LENGTHS)
    assert found.keys() >= compute_timing_metrics(verl(), TIMINGS).keys()


def test_a_responses_length_is_without_what_tools_have_written() -> None:
    some = part(list(range(6)))
    some.handle.tags[2][LOSS_LENGTH] = 4  # of 9
    found = step_metrics([some], TIMINGS, 4, 1)
    assert [found[f"response_length/{of}"] for of in ("mean", "max", "min")] == [13 / 5, 5, 0]
    assert [found[f"response_length_non_aborted/{of}"] for of in ("mean", "max", "min")] == [13 / 4, 5, 1]
    assert found["perf/total_num_tokens"] == sum(LENGTHS) + sum(PROMPTS)


def test_a_rollout_lags_behind_by_the_steps_since_its_weights() -> None:
    found = step_metrics([part(list(range(6)))], TIMINGS, 4, 1)
    prefix = "training/off_policy/trajectory"
    assert [found[f"{prefix}_staleness/{of}"] for of in ("mean", "max", "min")] == [0.6, 1, 0]
    assert [found[f"{prefix}_staleness_worst/{of}"] for of in ("max", "min")] == [2, 2]
    assert [found[f"{prefix}_spans/{of}"] for of in ("max", "min")] == [3, 2]


def test_what_tags_do_not_say_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    some = part([0, 1, 2])
    for name in (REWARD, TURNS):
        del some.handle.tags[1][name]

    def fetch(handle: KVBatchMeta, fields: list[str], rows: list[int]) -> dict[str, list[Any]]:
        assert rows == [1]
        return {"rm_scores": [torch.tensor([0.0, 0.75])], "num_turns": [4]}

    monkeypatch.setattr(module, "fetch", fetch)
    found = step_metrics([some], TIMINGS, 4, 1)
    assert found["critic/score/max"] == 1.0
    assert found["critic/score/mean"] == pytest.approx((1.0 + 0.75 - 2.0) / 3)
    assert found["num_turns/max"] == 4


def test_without_a_token_in_the_loss_advantages_are_not_numbers() -> None:
    assert all(math.isnan(value) for value in part([1, 3]).advantages.metrics().values())


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(-9, 9, width=32), st.integers(0, 5)), min_size=1, max_size=9),
    at=st.integers(0, 9),
)
def test_advantages_of_two_parts_are_those_of_the_whole(rows: list[tuple[float, int]], at: int) -> None:
    values, tokens = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    whole = TokenAdvantages.of(values, tokens)
    parts = TokenAdvantages.of(values[:at], tokens[:at]) | TokenAdvantages.of(values[at:], tokens[at:])
    assert parts[1:] == whole[1:]
    assert parts.total == pytest.approx(whole.total)
    each = values.repeat_interleave(tokens)
    if len(each):
        assert whole.metrics() == pytest.approx(
            {"mean": float(each.mean()), "max": float(each.max()), "min": float(each.min())}, abs=1e-6
        )


def test_ages_are_those_of_the_rows_whose_weights_are_known() -> None:
    """An agent loop of one's own may not hand on what its engine has said."""
    some = part([0, 1, 2])
    some.handle.tags[0] |= {"min_global_steps": None, "max_global_steps": None}
    del some.handle.tags[1]["min_global_steps"]
    found = step_metrics([some], TIMINGS, 4, 2)
    assert found["training/off_policy/trajectory_staleness/mean"] == 4 - 1 - 2
    assert found["training/off_policy/trajectory_spans/max"] == 2
    for tag in some.handle.tags:
        tag |= {"min_global_steps": None}
    assert math.isnan(step_metrics([some], TIMINGS, 4, 2)["training/off_policy/trajectory_spans/max"])
