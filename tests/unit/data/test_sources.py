"""Every data source has a reward that scores it, and every reward that names sources names some that there are."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.config.load import load_run_config
from mrpo.data.check import FileReport, Report
from mrpo.data.sources import applicable, require_rewards, source_counts
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit
REPORT = Report(
    files=[
        FileReport(field="data.train_files[0]", path="a", rows=3, sources={"letters": 2, "openai/gsm8k": 1}),
        FileReport(field="data.train_files[1]", path="b", rows=2, sources={"letters": 2}),
        FileReport(field="data.val_files[0]", path="c", rows=1, sources={"aime": 1}),
    ]
)
ALL = "rewards.short.sources=[letters,openai/gsm8k,aime]"


def config(*overrides: str) -> Any:
    return load_run_config(["recipe=quickstart", *overrides], print)[0]


def test_sources_are_counted_over_files() -> None:
    assert source_counts(REPORT) == {"letters": 4, "openai/gsm8k": 1, "aime": 1}
    assert source_counts(REPORT, "data.val_files") == {"aime": 1}


def test_rewards_without_sources_apply_to_all() -> None:
    given = config("rewards.correct.sources=[letters]", "rewards.tagged.sources=[openai/gsm8k]")
    require_rewards(given, REPORT)
    assert applicable(given.rewards, "letters") == ["correct", "short"]
    assert applicable(given.rewards, "aime") == ["short"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["rewards.correct.sources=[leters]"],
            "rewards.correct.sources: unknown data source 'leters'. Did you mean 'let",
        ),
        (["rewards.correct.sources=[gsm8k]"], "unknown data source 'gsm8k'.*Allowed: aime, letters, openai/gsm8k"),
        (
            [f"rewards.{name}.sources=[letters,openai/gsm8k]" for name in ("correct", "tagged", "short")],
            "no reward applies to the data source 'aime'",
        ),
        (
            ["rewards.correct.sources=[letters]", "rewards.tagged.sources=[letters]", "rewards.short.weight=0"],
            "no reward of a weight above 0 applies to the data source 'openai/gsm8k'",
        ),
        (
            ["algorithm.preset=verl", "rewards.correct.sources=[letters]"],
            "algorithm.preset: given verl.* while correct doesn't apply to openai/gsm8k",
        ),
        (
            ["algorithm.estimator=papo", "algorithm.outcome=tagged", "rewards.tagged.sources=[openai/gsm8k]"],
            "algorithm.outcome: given tagged, which doesn't apply to letters",
        ),
        (["algorithm.estimator=papo", "rewards.correct.sources=[letters]"], "algorithm.outcome: given correct"),
    ],
)
def test_what_cant_work_is_refused_in_one_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        require_rewards(config(*overrides), REPORT)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        [ALL],
        ["algorithm.preset=verl", ALL],
        ["algorithm.preset=verl", "rewards.correct.sources=[letters]", "rewards.correct.weight=0"],
        ["algorithm.estimator=papo", "algorithm.outcome=tagged", "rewards.correct.sources=[letters]"],
        ["algorithm.preset=trl", "rewards.correct.sources=[letters]"],
    ],
)
def test_what_works_is_not_refused(overrides: list[str]) -> None:
    require_rewards(config(*overrides), REPORT)


def test_a_condition_that_no_row_can_meet_is_refused() -> None:
    sources = ["rewards.correct.sources=[letters]", "rewards.short.sources=[chat]"]
    with pytest.raises(ConfigError, match=r"rewards\.short\.requires: given correct, which applies to letters only"):
        config(*sources, "rewards.short.requires={correct: 1}")
    config("rewards.correct.sources=[letters]", "rewards.short.requires={correct: 1}")
