"""The second picture, and the numbers behind it: pairs of rewards, prompts and their rollouts."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.config.schedule import Schedule
from mrpo.observe import prompts
from mrpo.observe.allocation import uniform_note
from mrpo.observe.axes import decimals, reward_style, short
from mrpo.observe.contributions import draw_contributions
from mrpo.observe.heatmap import pair_means
from mrpo.observe.prompts import Prompt, rank_correlation, recent_prompts, reward_weights

from .detailed import advantage_metrics, budget_metrics, detailed_run
from .pages import page_of
from .runs import new_run, recorded_run

pytestmark = pytest.mark.unit


def _row(uid: str, sample: int, **rewards: float | None) -> dict[str, Any]:
    return {"uid": uid, "sample": sample, "rewards": rewards, "advantage": 0.0}


def test_draws_of_one_prompt_are_put_together(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.write_rollouts(1, [_row("p-0", 0, a=0.0), _row("p-0", 1, a=1.0), _row("q-1", 0, a=1.0)])
    folder.write_rollouts(2, [_row("p-2", sample, a=1.0) for sample in range(4)])
    recent = recent_prompts(folder, {})
    assert recent is not None
    assert (recent.first_step, recent.last_step) == (1, 2)
    first, second = recent.prompts
    assert first == pytest.approx((3.0, 5 / 6, 1 / 6))  # two draws with six rollouts: 0 1 1 1 1 1
    assert second == Prompt(1.0, 1.0, None)


def test_a_uid_that_comes_again_in_another_step_is_another_draw(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step, size in ((1, 2), (2, 4)):
        folder.write_rollouts(step, [_row("p-0", sample, a=1.0) for sample in range(size)])
    recent = recent_prompts(folder, {})
    assert recent is not None
    assert recent.prompts == [Prompt(3.0, 1.0, 0.0)]


def test_rewards_count_by_weight_and_a_rollout_without_any_score_is_no_zero(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    rows = [_row("p-0", 0, a=1.0, b=None, length=300.0), _row("p-0", 1, a=None, b=None, length=20.0)]
    folder.write_rollouts(1, [*rows, _row("q-0", 0, a=None, b=None, length=1.0), _row("p-0", 2, a=0.0, b=3.0)])
    recent = recent_prompts(folder, {"a": 2.0, "length": 0.0})
    assert recent is not None
    assert recent.prompts == [Prompt(3.0, 2.5, 0.5)]  # scores 2 and 3 of three rollouts; nobody scored q


def test_prompts_are_those_of_the_last_quarter_and_of_no_more_rollouts_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = detailed_run(tmp_path, ("a",), steps=40, prompts=3)
    size = len(folder.read_rollouts(40))
    quarter = recent_prompts(folder, {})
    monkeypatch.setattr(prompts, "_MAX_ROLLOUTS", 2 * size)
    two = recent_prompts(folder, {})
    monkeypatch.setattr(prompts, "_MAX_ROLLOUTS", 1)
    one = recent_prompts(folder, {})  # the last step counts however large it is
    assert [found and found[1:] for found in (quarter, two, one)] == [(31, 40), (39, 40), (40, 40)]


def test_no_rollouts_are_no_prompts(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    assert recent_prompts(folder, {}) is None
    folder.write_rollouts(1, [])
    assert recent_prompts(folder, {}) is None


def test_allocation_by_variance_shows_in_the_rank_correlation(tmp_path: Path) -> None:
    recent = recent_prompts(detailed_run(tmp_path, ("a", "b"), steps=40), {})
    assert recent is not None
    pairs = [(p.variance, p.rollouts) for p in recent.prompts if p.variance is not None]
    assert (rank_correlation(pairs) or 0.0) > 0.8


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30, unique=True), st.randoms())
def test_rank_correlation_sees_order_alone(values: list[int], chance: Any) -> None:
    chance.shuffle(values)
    assert rank_correlation([(x, x**3) for x in values]) == pytest.approx(1)
    assert rank_correlation([(x, -x) for x in values]) == pytest.approx(-1)
    assert rank_correlation([(x, 7) for x in values]) is None


def test_ties_share_their_mean_rank() -> None:
    assert rank_correlation([(1, 1), (1, 2), (2, 3), (9, 4)]) == pytest.approx(0.9**0.5)
    assert rank_correlation([(1, 1), (2, 2)]) is None


def test_weights_come_from_the_config(tmp_path: Path) -> None:
    config = "rewards:\n  a: {function: x, weight: 0.5}\n  b: {function: y}\n"
    assert reward_weights(new_run(tmp_path, config)) == {"a": 0.5}
    assert reward_weights(new_run(tmp_path, "recipe: quickstart\n")) == {}
    config = "rewards:\n  a: {function: x, weight: {'0': 0, '4': 2}}\n  b: {function: y, weight: half}\n"
    assert reward_weights(new_run(tmp_path, config)) == {"a": Schedule(((0, 0), (4, 2)))}


def test_a_prompts_reward_is_by_the_weights_of_each_step(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in (1, 2):
        folder.write_rollouts(step, [_row("a-1", 0, x=1.0, y=1.0)])
    recent = recent_prompts(folder, {"x": 1.0, "y": Schedule(((1, 0.0), (2, 3.0)))})
    assert recent is not None
    assert [prompt.mean for prompt in recent.prompts] == [(1 + 4) / 2]


def test_scheduled_weights_are_drawn_over_their_effects() -> None:
    from matplotlib.figure import Figure

    rewards = ("a", "b")
    records: list[dict[str, Any]] = [{"step": s, **advantage_metrics(s, 4, rewards)} for s in range(1, 5)]
    plain, scheduled = Figure(figsize=(12, 6)), Figure(figsize=(12, 6))
    draw_contributions(plain, records, rewards)
    draw_contributions(scheduled, [{**r, "reward/b/weight": r["step"] / 4} for r in records], rewards)
    labels = [[axes.get_ylabel() for axes in figure.axes] for figure in (plain, scheduled)]
    assert [of.count("scheduled weight (lines)") for of in labels] == [0, 1]
    (beside,) = (axes for axes in scheduled.axes if axes.get_ylabel() == "scheduled weight (lines)")
    drawn = [np.asarray(line.get_ydata()).tolist() for line in beside.lines]
    assert drawn == [[0.25, 0.5, 0.75, 1.0]] * 2  # and its edge


def test_pairs_are_found_in_either_order_and_averaged_over_the_last_quarter() -> None:
    records: list[dict[str, Any]] = [{"step": step, "m/a/b": 9.0} for step in range(1, 7)]
    records += [{"step": 7, "m/a/b": 0.25, "m/c/b": -0.5}, {"step": 8, "m/a/b": 0.75}]
    assert pair_means(records, "m", ("a", "b", "c")) == {(1, 0): 0.5, (2, 1): -0.5}
    assert pair_means([], "m", ("a", "b")) == {}


def _sizes(*steps: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"step": i, "budget/n/min": low, "budget/n/max": high} for i, (low, high) in enumerate(steps)]


def test_budget_is_uniform_only_if_every_step_was() -> None:
    assert "got 8 rollouts in every step" in (uniform_note(_sizes((8, 8), (8, 8))) or "")
    assert "4 to 8 by step" in (uniform_note(_sizes((8, 8), (4, 4))) or "")
    assert uniform_note(_sizes((8, 8), (1, 32), (8, 8))) is None


def test_unknown_budget_is_not_reported_as_uniform() -> None:
    assert uniform_note([{"step": 1, "budget/n/min": 3}]) == "No step says how its rollouts were divided."


def test_rewards_up_to_twelve_differ_in_colour_or_dashes() -> None:
    assert len({reward_style(place) for place in range(12)}) == 12
    assert len({reward_style(place)[0] for place in range(8)}) == 8


def test_numbers_and_names_are_short() -> None:
    assert [decimals(value) for value in (0.126, -0.126, -0.001, 0)] == ["0.13", "−0.13", "0.00", "0.00"]
    assert [short("reward", 6), short("rewards", 6)] == ["reward", "rewar…"]


# ---- the picture ----


def test_second_picture_is_drawn_where_there_are_the_estimators_diagnostics(tmp_path: Path) -> None:
    plain, detailed = recorded_run(tmp_path, steps=3), detailed_run(tmp_path, ("a", "b"))
    assert "Advantage and rollout budget" not in page_of(plain).text
    assert not plain.details_png.exists()
    assert "Advantage and rollout budget" in page_of(detailed).text
    assert detailed.details_png.read_bytes().startswith(b"\x89PNG")


def test_uniform_budget_takes_one_line_and_no_panels(tmp_path: Path) -> None:
    uniform, divided = (detailed_run(tmp_path, ("a", "b"), uniform=uniform) for uniform in (True, False))
    line = "Every prompt got 4 rollouts in every step: the budget was uniform."
    assert line in page_of(uniform).text
    assert line not in page_of(divided).text
    (_, low), (_, high) = (_size_of_png(folder.details_png) for folder in (uniform, divided))
    assert high > 1.7 * low


@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's word for a layout that doesn't fit
@pytest.mark.parametrize(("count", "steps"), [(1, 1), (2, 20), (8, 20), (13, 1)])
def test_details_take_any_number_of_rewards_and_steps(tmp_path: Path, count: int, steps: int) -> None:
    page_of(detailed_run(tmp_path, [f"a_reward_of_a_long_name_{place}" for place in range(count)], steps))


@pytest.mark.filterwarnings("error::UserWarning")
def test_details_with_metrics_missing_in_some_steps(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in range(1, 20):
        metrics = advantage_metrics(step, 20, ("a", "b", "c")) | budget_metrics(step, [2, 9, step])
        folder.write_metrics(step, {name: v for name, v in metrics.items() if (len(name) + step) % 3})
    folder.write_rollouts(19, [])
    page_of(folder)
    assert folder.details_png.exists()


def _size_of_png(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])
