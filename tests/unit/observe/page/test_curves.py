"""What is drawn of a run: what was measured, at the steps where it was, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.observe.page import curves
from mrpo.observe.page.charts import SECONDS, VALIDATION, charts_of
from mrpo.observe.page.columns import unpack
from mrpo.observe.page.curves import curves_of, marks_of

from ..detailed import advantage_metrics, budget_metrics
from ..runs import metrics_of

pytestmark = pytest.mark.unit
REWARDS = ("correct", "format", "short")


def known(values: Any) -> list[float | None]:
    return [None if value != value else value for value in values]


def test_metrics_are_exact_and_a_step_without_one_has_none() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "time": 5.0, "reward/a/mean": 1 / 3, "words": "no number"},
        {"step": 4, "time": 6.0, "train/loss": 10**400, "validation/val-aux/math/a/mean@1": 0.5},
    ]
    drawn = curves_of(records, [], ["a"])
    assert list(unpack(drawn["steps"])) == [1, 4]
    found = {name: known(unpack(column)) for name, column in drawn["metrics"].items()}
    assert found == {
        "reward/a/mean": [1 / 3, None],
        "train/loss": [None, float("inf")],
        "validation/val-aux/math/a/mean@1": [None, 0.5],
        VALIDATION + "a": [None, 0.5],
    }
    (chart,) = (chart for chart in drawn["charts"] if chart["section"] == "Rewards")
    assert chart["series"][0] == {
        "label": "mean", "metric": "reward/a/mean", "place": 0, "low": "", "high": "", "std": "",
        "points": VALIDATION + "a",
    }  # fmt: skip


def test_every_part_of_the_pictures_is_a_chart() -> None:
    metrics = metrics_of(1) | advantage_metrics(1, 9, REWARDS) | budget_metrics(1, [2, 4, 9])
    metrics |= {f"reward/{name}/density": 0.5 for name in REWARDS} | {"rollout/truncated_share": 0.1}
    metrics |= {"time/rank_idle": 0.5, "time/engine_idle": 0.5, SECONDS + "rollout": 1.0}
    titles = {(chart.section, chart.title) for chart in charts_of(metrics, REWARDS)}
    wanted = {
        "Rewards": [*REWARDS],
        "Advantage": ["effective weight", "share of the advantage's square", "density", "no variance within the group"],
        "Rollout budget": ["rollouts per prompt", "zero-signal groups", "signal's variance"],
        "Responses": ["response length", "truncated"],
        "Policy": ["entropy", "KL", "gradient norm"],
        "Time": ["step time by phase", "idle"],
    }
    wanted["Advantage"] += ["correlation within groups", "conflict within groups", "distinct groups", "κ of DVAO"]
    assert {(section, title) for section, of in wanted.items() for title in of} <= titles
    assert charts_of([], REWARDS) == []


def test_lines_without_a_column_are_left_out_and_pairs_are_found_in_either_order() -> None:
    columns = [
        "reward/a/density",
        "advantage/conflict/b/a",
        "rollout/response_length/mean",
        "rollout/response_length/min",
    ]
    density, conflict, length = charts_of(columns, ["a", "b"])
    assert [line.label for line in density.series] == ["a"]
    assert [(line.label, line.metric) for line in conflict.series] == [("a, b", "advantage/conflict/b/a")]
    assert (length.series[0].low, length.series[0].high) == ("rollout/response_length/min", "")


def test_a_long_run_is_thinned_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"step": step, "time": 0.0, "train/loss": float(step)} for step in range(1, 12)]
    assert curves_of(records, [], [])["every"] == 1
    monkeypatch.setattr(curves, "MAX_STEPS", 4)
    drawn = curves_of(records, [], [])
    assert drawn["every"] == 3
    assert list(unpack(drawn["steps"])) == [1, 4, 7, 10, 11] == list(unpack(drawn["metrics"]["train/loss"]))
    assert curves_of([], [], [])["metrics"] == {}


def test_checkpoints_and_restarts_are_marked_at_their_steps() -> None:
    plan: dict[str, Any] = {"phase": "plan", "step": None}
    events = [
        {**plan, "first_step": 1}, {"phase": "save", "step": 2}, {"phase": "save", "step": 4},
        {**plan, "first_step": 3}, {"phase": "save", "step": 4}, {"phase": "rollout", "step": 5},
    ]  # fmt: skip
    assert [(mark["kind"], mark["step"]) for mark in marks_of(events)] == [
        ("checkpoint", 2), ("restart", 2.5), ("checkpoint", 4)
    ]  # fmt: skip
