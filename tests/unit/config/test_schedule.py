"""Schedules are pure functions of the step, as a recipe or a run folder has them, and refused where malformed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.load import validate
from mrpo.config.schedule import Schedule, parse, parse_schedule
from mrpo.errors import ConfigError
from mrpo.step.outcome import schedule_metrics

pytestmark = pytest.mark.unit

POINTS = st.dictionaries(st.integers(0, 50), st.floats(0, 10), min_size=1, max_size=6).map(
    lambda p: dict(sorted(p.items()))
)


def content(**rewards: Any) -> dict[str, Any]:
    return {
        "recipe": "test",
        "model": {"path": "m"},
        "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 4},
        "trainer": {"total_training_steps": 20},
        "rewards": {name: {"function": "r.py:f", **reward} for name, reward in rewards.items()},
    }


@pytest.mark.parametrize(
    ("given_by_user", "at"),
    [
        ({0: 0, 100: 1}, {0: 0, 1: 0.01, 50: 0.5, 100: 1, 101: 1, None: 1}),
        ({10: 2, 20: 1, 30: 4}, {1: 2, 10: 2, 15: 1.5, 25: 2.5, 99: 4, None: 4}),
        ({"linear": {10: 2, 20: 1}}, {15: 1.5}),
        ({"step": {10: 2, 20: 1}}, {1: 2, 10: 2, 19: 2, 20: 1, 99: 1, None: 1}),
        ({5: 3}, {1: 3, 9: 3, None: 3}),
    ],
)
def test_a_schedule_is_linear_between_its_points_or_constant_up_to_the_next(given_by_user: Any, at: Any) -> None:
    schedule = parse_schedule(given_by_user)
    assert {step: schedule.at(step) for step in at} == pytest.approx(at)


@settings(max_examples=10, deadline=None)
@given(points=POINTS, form=st.sampled_from(["linear", "step"]), step=st.integers(0, 60))
def test_it_stays_between_its_values_and_survives_the_run_folder(points: Any, form: Any, step: int) -> None:
    schedule = parse_schedule({form: points})
    assert min(schedule.values) - 1e-9 <= schedule.at(step) <= max(schedule.values) + 1e-9
    config = validate(content(a={"weight": {form: points}}, b={}, c={"weight": 0}))
    again = validate(yaml.safe_load(config.as_yaml()))
    assert again == config
    assert again.advantage_at(step).weights == {"a": schedule.at(step), "b": 1.0, "c": 0.0}


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({100: 1, 0: 0}, r"rewards.a.weight: given step 0 after step 100, allowed: steps that increase"),
        ({0: 0, "0": 1}, "given step 0 after step 0"),
        ({-1: 0}, "given the step -1, allowed: whole numbers from 0"),
        ({1.5: 0}, r"given the step 1\.5"),
        ({True: 0}, "given the step True"),
        ({0: "x"}, "given the value 'x', allowed: finite numbers"),
        ({0: float("inf")}, "given the value inf"),
        ({}, "rewards.a.weight: given {}"),
        ({"sin": {0: 1}}, "allowed: linear or step before the points"),
        ({"step": {}}, "allowed: numbers by step"),
        ({0: 1, 5: -1}, "rewards.a.weight: given -1, allowed: 0 or more"),
        (-1, "rewards.a.weight: given -1, allowed: 0 or more"),
        ("high", "rewards.a.weight: given 'high', allowed: a number, or numbers by step"),
        (True, "given True"),
        ([0, 1], r"given \[0, 1\]"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_field(weight: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(content(a={"weight": weight}, b={}))


@pytest.mark.parametrize(
    ("a", "b", "step"),
    [({0: 1, 5: 0, 10: 1}, {0: 0}, 5), ({0: 1, 5: 0, 9: 0, 10: 1}, 0, 5), ({"step": {0: 0, 3: 1}}, 0, 1)],
)
def test_in_every_step_some_reward_counts(a: Any, b: Any, step: int) -> None:
    with pytest.raises(ConfigError, match=f"all weights are 0 in step {step}, allowed"):
        validate(content(a={"weight": a}, b={"weight": b}))
    validate(content(a={"weight": {0: 0, 100: 1}}))  # 0 before the first step


def test_options_follow_the_step_beside_those_that_dont() -> None:
    scheduled = {"cap": {0: 40, 10: 20}, "unit": {"step": {0: 1, 5: 2}}}
    reward = validate(content(a={"options": {"kind": "cap"}, "scheduled_options": scheduled})).rewards["a"]
    assert reward.options_at(5) == {"kind": "cap", "cap": 30.0, "unit": 2}
    assert reward.options_at(None) == {"kind": "cap", "cap": 20, "unit": 2}
    with pytest.raises(ConfigError, match=r"scheduled_options\.cap: is given under options, too"):
        validate(content(a={"options": {"cap": 3}, "scheduled_options": scheduled}))
    with pytest.raises(ConfigError, match=r"rewards\.a\.scheduled_options\.cap: given 3, allowed: numbers by step"):
        validate(content(a={"scheduled_options": {"cap": 3}}))


def test_what_another_reward_must_reach_may_follow_the_step_too() -> None:
    rewards = {"a": {}, "b": {"requires": {"a": {0: 0.5, 10: 1}}}, "c": {"requires": {"a": 1, "b": {"retain": 0.2}}}}
    given_by_user = content(**rewards)
    given_by_user["rewards"]["b"]["range"] = [0, 1]
    config = validate(yaml.safe_load(validate(given_by_user).as_yaml()))
    assert [of.threshold for of in config.advantage_at(5).conditions] == [0.75, 1.0, None]
    assert schedule_metrics(config.rewards, 5) == {"reward/b/requires/a": 0.75}
    for wrong, message in (({5: 1, 0: 1}, "given step 0 after step 5"), ("x", "given 'x'"), ({"least": 1}, "least")):
        with pytest.raises(ConfigError, match=message):
            validate(content(a={}, b={"requires": {"a": wrong}}))


def test_validations_are_added_up_by_the_last_weights() -> None:
    config = validate(content(a={"weight": {0: 0, 100: 2}}, b={}))
    assert config.weights == config.advantage.weights == {"a": 2, "b": 1.0}


def test_a_number_stays_a_number() -> None:
    assert parse(2) == 2.0
    assert validate(content(a={"weight": 2})).rewards["a"].weight == 2.0
    assert f"{Schedule(((0, 0.5), (9, 1)), 'step')}" == "{step: {0: 0.5, 9: 1}}"


@pytest.mark.parametrize("field", ["budget.rounds.reward", "budget.reward"])
@pytest.mark.parametrize(
    ("reward", "weight", "message"),
    [
        ("b", 0, r": given b; a reward of scope group is known when .* Allowed: a"),
        ("total", 1, r": given total, which includes b; a reward of scope group"),
        ("c", 1, r": unknown .*'c'.* Allowed: a, b, total"),
        ("total", 0, ""),
        ("a", 1, ""),
    ],
)
def test_rounds_and_pilots_are_not_decided_by_what_is_known_after_them(
    field: str, reward: str, weight: float, message: str
) -> None:
    given_by_user = content(a={}, b={"scope": "group", "weight": weight})
    by_field: dict[str, dict[str, Any]] = {
        "budget.reward": {"method": "pilot_commit", "reward": reward},
        "budget.rounds.reward": {"rounds": {"reward": reward, "keep": 4}},
    }
    given_by_user["budget"] = {**by_field[field], "rollouts_per_prompt": 4}
    if not message:
        assert validate(given_by_user).budget.deciding == (field, reward)
        return
    with pytest.raises(ConfigError, match=re.escape(field) + message):
        validate(given_by_user)


def test_pilots_are_counted_in_rollouts() -> None:
    given_by_user = content(a={}) | {"budget": {"method": "pilot_commit", "unit": "tokens"}}
    with pytest.raises(ConfigError, match=r"budget\.unit: given tokens with method pilot_commit, allowed: rollouts"):
        validate(given_by_user)
