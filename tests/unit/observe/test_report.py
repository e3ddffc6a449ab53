"""The picture and the page of a run, at any time in its life."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.observe.summary import quarters, samples, smooth, window
from mrpo.observe.timing import phase_seconds

from .pages import page_of
from .runs import metrics_of, new_run, recorded_run, rollouts_of

pytestmark = pytest.mark.unit


def test_page_has_rewards_rollouts_steps_and_config_in_one_file(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=12)
    page = page_of(folder)
    assert not page.tags & {"link", "iframe", "object", "embed", "base"}
    for text in (folder.name, "done, 12 of 40 steps", "recipe: quickstart", "Best of step 12", "First of step 1"):
        assert text in page.text
    for reward in ("correct", "format", "short"):
        values = [metrics_of(step)[f"reward/{reward}/mean"] for step in range(1, 13)]
        first, last = quarters(values)
        assert f"{reward}{first:.3f}{last:.3f}{last - first:+.3f}" in page.text
        assert all(f"{value:.3f}" in page.text for value in values)


def test_text_of_a_rollout_is_escaped(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1)
    row = rollouts_of(1)[0] | {"response": "</pre><script>alert(1)</script> $name & <b>", "uid": "<i>"}
    folder.write_rollouts(1, [row])
    page = page_of(folder)  # which finds no program but ours
    assert page.given["rollouts"]["uids"] == ["<i>"]
    assert "i" not in page.tags
    assert "</pre><script>alert(1)</script> $name & <b>" in page.text


def test_name_of_a_reward_an_error_and_the_config_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1) & <b>"
    folder = new_run(tmp_path, config=f"rewards: '{name}'")
    folder.write_metrics(1, {f"reward/{name}/mean": 0.5, f"reward/{name}/effective_weight": 1.0})
    folder.write_rollouts(1, [rollouts_of(1)[0] | {"rewards": {name: 0.5}}])
    folder.event("failed", detail=f"KeyError: {name!r}")
    page = page_of(folder)  # which finds no program but ours
    assert "b" not in page.tags
    assert page.given["rollouts"]["rewards"] == page.given["runs"][0]["rewards"] == [name]
    assert page.text.count(name) == 5  # failure, summary, rollout, steps, config


def test_rollout_shows_every_component_and_a_dash_for_none(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1)
    rewards = {"correct": 1.0, "format": None, "short": 0.25}
    folder.write_rollouts(1, [rollouts_of(1)[0] | {"rewards": rewards, "advantage": -0.75, "keep": False}])
    page = page_of(folder).text
    for shown in ("correct 1.000", "format –", "short 0.250", "advantage -0.750", "left out of the update"):
        assert shown in page


def test_failed_run_shows_its_cause(tmp_path: Path) -> None:
    text = page_of(recorded_run(tmp_path, steps=3, end="failed")).text
    assert "failed, 3 of 40 steps" in text
    assert "KeyError: 'x'" in text


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_report_of_a_young_and_unfinished_run(tmp_path: Path, steps: int) -> None:
    assert f"unfinished, {steps} of 40 steps" in page_of(recorded_run(tmp_path, steps=steps, end="")).text


def test_report_of_a_run_that_wrote_nothing_yet(tmp_path: Path) -> None:
    assert "No rollouts were written yet." in page_of(new_run(tmp_path)).text


def test_report_with_metrics_missing_in_some_steps_and_a_torn_last_line(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in range(1, 20):
        metrics: dict[str, Any] = {name: v for name, v in metrics_of(step).items() if (len(name) + step) % 3}
        metrics["reward/unbounded/mean"] = -40.0 * step if step % 2 else float("nan")
        folder.write_metrics(step, metrics)
    with open(folder.metrics_file, "a") as stream:
        stream.write('{"step": 20, "ti')
    assert "unbounded" in page_of(folder).text


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_figure_takes_any_number_of_rewards(tmp_path: Path, count: int) -> None:
    folder = new_run(tmp_path)
    for step in (1, 2):
        folder.write_metrics(step, {f"reward/r{place}/mean": step / 2 for place in range(count)})
    page = page_of(folder)
    assert all(f"r{place}0.5001.000" in page.text for place in range(count))


def test_last_validation_of_each_reward_is_in_the_summary(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step, mean in ((1, 0.25), (2, 0.75), (3, None)):
        validated = {} if mean is None else {"validation/val-aux/gsm8k/a/mean@1": mean}
        folder.write_metrics(step, {"reward/a/mean": 0.5, "reward/b/mean": 0.5} | validated)
    text = page_of(folder).text
    assert "changelast validation" in text
    assert "a0.5000.500+0.0000.750" in text
    assert "b0.5000.500+0.000–" in text
    assert "last validation" not in page_of(recorded_run(tmp_path, steps=2)).text


def test_report_can_be_written_again_and_leaves_no_partial_files(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=2, end="")
    page_of(folder)
    folder.event("done")
    assert "done, 2 of 40" in page_of(folder).text
    assert not [file.name for file in folder.path.iterdir() if re.match(r"\.report", file.name)]


def test_samples_are_the_last_steps_best_and_worst_and_the_runs_first_and_last(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in (1, 2):
        scores = [(0.0, 0.5), (1.0, 0.9), (1.0, 0.1), (None, 0.3), (0.5, 0.0)]
        rows = [
            {"uid": f"u{step}", "sample": sample, "rewards": {"a": score, "b": 0.1}, "advantage": advantage}
            for sample, (score, advantage) in enumerate(scores)
        ]
        folder.write_rollouts(step, rows)
    told = {label: (row["uid"], row["sample"]) for label, row in samples(folder)}
    best, worst, first, last = ("u2", 1), ("u2", 3), ("u1", 0), ("u2", 4)
    assert told == {"Best of step 2": best, "Worst of step 2": worst, "First of step 1": first, "Last of step 2": last}


def test_quarters_of_few_values_are_the_first_and_the_last() -> None:
    assert quarters([3.0]) == (3.0, 3.0)
    assert quarters([1.0, 5.0, 2.0]) == (1.0, 2.0)
    assert quarters([0, 2, 9, 9, 9, 9, 4, 8]) == (1, 6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(0, 20))
def test_rolling_mean_keeps_length_and_stays_within_the_values(values: list[float], half: int) -> None:
    smoothed = smooth(values, 2 * half + 1)
    assert len(smoothed) == len(values)
    assert min(values) - 1e-9 <= min(smoothed) <= max(smoothed) <= max(values) + 1e-9
    assert smooth(values, 1) == pytest.approx(values)


def test_window_is_odd_and_short_runs_are_not_smoothed() -> None:
    assert [window(count) for count in (1, 14, 15, 40, 300)] == [1, 1, 3, 5, 31]


def test_phases_of_a_step_add_up_to_its_time() -> None:
    records = [{"step": step, **metrics_of(step)} for step in range(1, 41)]
    parts = phase_seconds(records)
    for place, record in enumerate(records):
        assert sum(seconds[place] for seconds in parts.values()) == pytest.approx(record["time/step"])
    assert "advantage" not in parts  # .03 s of 2 s: counted as "other"


def test_validation_comes_on_top_of_the_step() -> None:
    parts = phase_seconds([{"step": 1, "time/step": 3.0, "time/rollout": 2.0, "time/validate": 5.0}])
    assert parts == {"rollout": [2.0], "validate": [5.0], "other": [1.0]}
