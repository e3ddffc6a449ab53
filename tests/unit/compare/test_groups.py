"""Grouping by settings: the seed, places and what a seed names don't make another group; everything else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mrpo.compare.groups import group_runs, labels_of
from mrpo.compare.run import Run
from tests.unit.compare.runs import a_run

pytestmark = pytest.mark.unit


def of(seed: int, **settings: Any) -> Run:
    fields = {name.replace("__", "."): value for name, value in settings.items()}
    place = {"prepare": "prepare.py", "model.path": f"/c/quickstart-{seed:012x}/model", "run_dir": f"/r/{seed}"}
    return replace(a_run(f"run-{seed}", seed, None, x=[0.0]), settings={"seed": seed, **place, **fields})


def test_runs_that_differ_in_seed_and_places_are_one_group() -> None:
    runs = [of(seed, recipe="mine/bigger") for seed in (0, 1)]
    [group] = group_runs([*runs, of(2, recipe="mine/bigger", trainer__total_training_steps=9)])
    assert group.name == "mine/bigger"
    assert len(group.runs) == 3
    assert [group.name for group in group_runs(runs[:1])] == ["run-0"]


def test_groups_are_named_by_what_differs() -> None:
    runs = [of(n, algorithm__estimator=name, actor__learning_rate=0.1) for n in (0, 1) for name in ("grpo", "gdpo")]
    assert [(group.name, len(group.runs)) for group in group_runs(runs)] == [
        ("estimator=grpo", 2),
        ("estimator=gdpo", 2),
    ]


def test_other_data_is_another_group_unless_prepare_made_it() -> None:
    made_by_hand = [of(0, prepare=None), of(1, prepare=None)]
    assert len(group_runs(made_by_hand)) == 2


def test_options_of_one_method_are_named_only_where_they_tell_groups_apart() -> None:
    grpo, dvao, other = {"a.estimator": "grpo"}, {"a.estimator": "dvao", "a.k": 1}, {"a.estimator": "dvao", "a.k": 2}
    assert labels_of([grpo, dvao]) == ["estimator=grpo", "estimator=dvao"]
    assert labels_of([grpo, dvao, other]) == ["estimator=grpo", "estimator=dvao, k=1", "estimator=dvao, k=2"]


def test_a_group_is_named_by_what_its_section_says_not_by_others_lack_of_it() -> None:
    plain = {"ahead": 1, "off_policy": None}
    uncorrected = {"ahead": 1, "off_policy.is": "none", "off_policy.rs": "none"}
    assert labels_of([plain | {"ahead": 0}, plain, uncorrected]) == ["ahead=0", "ahead=1", "ahead=1, is=none"]
    assert labels_of([plain, uncorrected]) == ["off_policy.is not set", "is=none"]


def test_a_group_that_lacks_what_others_have_says_so() -> None:
    assert labels_of([{"rewards.short.weight": 1.0}, {}]) == ["weight=1.0", "rewards.short.weight not set"]


def test_an_unset_option_differs_from_one_that_is_null() -> None:
    assert len(group_runs([of(0, rewards__a__range=None), of(0)])) == 2


def test_runs_of_unknown_settings_are_alone_unless_the_user_groups_them() -> None:
    runs = [a_run("x", None, None, x=[0.0]), a_run("x", None, None, x=[0.0]), a_run("y", 0, "mine", x=[0.0])]
    assert [group.name for group in group_runs([*runs, a_run("z", 1, "mine", x=[0.0])])] == ["x", "x (2)", "mine"]
