"""verl's names become ours; nothing vanishes and nothing collides."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrpo
from mrpo.record.metrics import NAMESPACES, REPEATED, TABLE, name_part, rename, reward_names, series, validation
from mrpo.record.phase import STEP_PHASES

pytestmark = pytest.mark.unit

# One step of verl 0.9.1's V1 trainer on a tiny model, names only.
_STEP_OF_VERL = """
actor/entropy perf/mfu/actor_infer training/rollout_probs_diff_valid training/rollout_probs_diff_max
training/rollout_probs_diff_mean training/rollout_probs_diff_std training/rollout_actor_probs_pearson_corr
global_seqlen/min global_seqlen/max global_seqlen/minmax_diff actor/pg_clipfrac actor/ppo_kl actor/pg_clipfrac_lower
actor/pg_loss actor/loss actor/grad_norm actor/lr actor/perf/max_memory_allocated_gb perf/mfu/actor
training/global_step training/epoch critic/score/mean critic/score/max critic/score/min critic/rewards/mean
critic/rewards/max critic/rewards/min critic/advantages/mean critic/advantages/max critic/advantages/min
critic/returns/mean critic/returns/max critic/returns/min response_length/mean response_length/max response_length/min
response_length/clip_ratio response_length_non_aborted/mean response/aborted_ratio prompt_length/mean num_turns/min
num_turns/max num_turns/mean timing_s/gen timing_s/old_log_prob timing_s/adv timing_s/update_actor
timing_s/update_weights timing_s/save_checkpoint timing_s/testing timing_s/step timing_s/start_profile
timing_per_token_ms/gen timing_per_token_ms/adv timing_per_token_ms/update_actor perf/total_num_tokens
perf/time_per_step perf/throughput training/num_turns/mean training/num_turns/max training/num_turns/min
training/off_policy/trajectory_spans/mean training/off_policy/trajectory_staleness/mean
"""
VERL_STEP = _STEP_OF_VERL.split()


@pytest.mark.parametrize(
    ("verl", "ours"),
    [
        ("actor/pg_loss", "train/pg_loss"),
        ("actor/grad_norm", "train/grad_norm"),
        ("actor/entropy", "train/entropy"),
        ("actor/lr", "train/lr"),
        ("response_length/mean", "rollout/response_length/mean"),
        ("response_length_non_aborted/mean", "rollout/response_length_non_aborted/mean"),
        ("critic/advantages/mean", "advantage/per_token/mean"),
        ("critic/vf_loss", "train/critic/vf_loss"),
        ("timing_s/gen", "time/rollout"),
        ("timing_s/old_log_prob", "time/old_log_prob"),
        ("timing_s/adv", "time/advantage"),
        ("timing_s/update_actor", "time/update_actor"),
        ("timing_s/update_weights", "time/update_weights"),
        ("timing_s/step", "time/step"),
        ("timing_s/save_checkpoint", "time/save"),
        ("timing_s/testing", "time/validate"),
        ("timing_per_token_ms/adv", "time/per_token_ms/advantage"),
        ("training/rollout_probs_diff_mean", "rollout/probs_diff/mean"),
        ("training/rollout_probs_diff_max", "rollout/probs_diff/max"),
        ("training/rollout_actor_probs_pearson_corr", "rollout/probs_diff/pearson"),
        ("val-core/capitals/acc/mean@1", "verl/val-core/capitals/acc/mean@1"),
        ("timing_s/something_new", "verl/timing_s/something_new"),
    ],
)
def test_verl_name_becomes_ours(verl: str, ours: str) -> None:
    assert rename({verl: 1.5}) == {ours: 1.5}


@given(st.text(), st.text())
def test_two_data_sources_never_share_a_part_of_a_name(one: str, other: str) -> None:
    assert "/" not in name_part(one)
    assert (name_part(one) == name_part(other)) == (one == other)


def test_what_verl_calls_clipped_is_left_out() -> None:
    assert rename({f"{of}_length/clip_ratio": 1.0 for of in ("prompt", "response")}) == {}


def test_whole_step_of_verl_is_renamed_without_loss_or_collision() -> None:
    values = {name: float(place) for place, name in enumerate(VERL_STEP)}
    renamed = rename(values)
    left_out = [name for name in VERL_STEP if any(name.startswith(repeated) for repeated in REPEATED)]
    assert len(renamed) == len(VERL_STEP) - len(left_out)
    assert not [name for name in renamed if name.startswith("verl/")]
    assert set(renamed.values()) == {values[name] for name in VERL_STEP if name not in left_out}


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False), max_size=5))
def test_unknown_names_are_kept_with_their_values(metrics: dict[str, float]) -> None:
    unknown = {f"unheard-of/{name}": value for name, value in metrics.items()}
    assert rename(unknown) == {f"verl/{name}": value for name, value in unknown.items()}


def test_our_own_names_stay() -> None:
    ours = {"reward/correct/mean": 0.5, "advantage/std": 1.0, "budget/total": 32, "rollout/n": 1, "time/x": 2.0}
    ours["validation/val-core/gsm8k/reward/mean@1"] = 0.5
    assert rename(ours) == ours


def test_renaming_twice_changes_nothing() -> None:
    once = rename(dict.fromkeys(VERL_STEP, 0.0))
    assert rename(once) == once


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"actor/lr.*train/lr|train/lr.*actor/lr"):
        rename({"train/lr": 1.0, "actor/lr": 2.0})


def test_table_stays_inside_the_namespaces_and_names_each_once() -> None:
    assert all(row.ours.startswith(NAMESPACES) for row in TABLE)
    assert len({row.ours for row in TABLE}) == len(TABLE)
    assert {f"time/{phase}" for phase in STEP_PHASES} <= {row.ours for row in TABLE}


def test_every_metric_family_of_estimator_and_budget_is_documented_where_the_table_says() -> None:
    documents = {row.ours: row.meaning.partition(": see ")[2] for row in TABLE if ": see " in row.meaning}
    assert documents.keys() == {"reward/<name>/", "advantage/", "budget/"}
    for namespace, module in documents.items():
        source = Path(mrpo.__path__[0]).parent / f"{module.replace('.', '/')}.py"
        documented = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        assert re.search(rf"^\| `*{namespace}", documented, re.MULTILINE)


def test_validation_of_a_reward_is_the_mean_over_its_data_sources() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "reward/a/mean": 1.0},
        {"step": 2, "validation/val-aux/x%2Fy/a/mean@1": 0.5, "validation/val-core/z/a/mean@4": 1.0},
        {"step": 3, "validation/val-aux/x/ba/mean@1": 0.5, "validation/val-aux/x/a/std@4": 1.0, "a/mean@1": 1.0},
        {"step": 4, "validation/val-aux/x/a/mean@1": 0.0, "validation/val-aux/z/a/mean@1": None},
    ]
    assert validation(records, "a") == ([2, 4], [0.75, 0.0])
    assert validation(records, ".") == ([], [])


def test_series_leaves_out_steps_that_lack_the_metric() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "a": 0.5},
        {"step": 2},
        {"step": 3, "a": None},
        {"step": 4, "a": 2},
        {"step": 5, "a": "x"},
    ]
    assert series(records, "a") == ([1, 4], [0.5, 2.0])


def test_reward_names_come_from_their_means_only() -> None:
    records = [{"reward/b/mean": 1}, {"reward/a/mean": 1, "reward/b/std": 0, "reward/c/std": 0, "train/mean": 3}]
    assert reward_names(records) == ["b", "a"]
