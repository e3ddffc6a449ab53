"""One step as it went: what overlaps is drawn side by side, and idle time is what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mrpo.observe.timeline import Bar, draw_timeline, timeline

pytestmark = pytest.mark.unit


def events(step: int, start: float, *parts: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"step": step, "phase": phase, "time": start + at} for phase, at in parts]


def record(step: int, seconds: float, engine_idle: float) -> dict[str, Any]:
    return {"step": step, "time/step": seconds, "time/engine_idle": engine_idle}


def test_engines_and_ranks_take_turns_on_policy() -> None:
    parts = ("rollout", 0.0), ("old_log_prob", 6.0), ("advantage", 7.0), ("update_actor", 7.5), ("update_weights", 9.5)
    drawn = timeline([record(1, 10.0, 4.0)], events(1, 50.0, *parts))
    assert drawn is not None
    assert drawn.engines == [Bar("rollout", 0.0, 6.0)]
    assert drawn.ranks == [
        Bar("old_log_prob", 6.0, 7.0), Bar("update_actor", 7.5, 9.5), Bar("update_weights", 9.5, 10.0)
    ]  # fmt: skip
    assert drawn.idle == {"engines": pytest.approx(0.4), "ranks": pytest.approx(0.65)}


def test_engines_sample_ahead_while_ranks_train() -> None:
    parts = ("rollout", 0.0), ("old_log_prob", 0.1), ("update_actor", 1.0), ("rollout", 4.0), ("update_weights", 6.0)
    drawn = timeline([record(2, 6.5, 0.5)], events(2, 0.0, *parts))
    assert drawn is not None
    assert drawn.engines == [Bar("rollout", 0.0, 6.0)]
    assert [bar.began for bar in drawn.ranks] == [0.1, 1.0, 6.0]
    assert drawn.ranks[1].ended == 4.0


def test_a_step_that_was_begun_twice_is_drawn_as_it_ended() -> None:
    first = events(3, 10.0, ("rollout", 0.0), ("old_log_prob", 1.0))
    again = events(3, 90.0, ("rollout", 0.0), ("old_log_prob", 2.0), ("update_actor", 3.0), ("update_weights", 5.0))
    drawn = timeline([record(3, 5.5, 3.5)], first + again)
    assert drawn is not None
    assert [bar.began for bar in drawn.ranks] == [2.0, 3.0, 5.0]


def test_validation_and_saving_are_no_part_of_it() -> None:
    parts = ("rollout", 0.0), ("update_actor", 1.0), ("update_weights", 2.0), ("validate", 2.5), ("save", 9.0)
    drawn = timeline([record(4, 2.5, 1.5)], events(4, 0.0, *parts))
    assert drawn is not None
    assert max(bar.ended for bar in drawn.ranks) == 2.5


def scored(step: int, at: float, busy: list[float]) -> dict[str, Any]:
    return {"step": step, "phase": "scored", "time": at, "busy": busy}


def test_reward_workers_have_a_lane_as_high_as_the_share_that_was_at_work() -> None:
    parts = ("rollout", 0.0), ("update_actor", 5.0), ("update_weights", 7.5)
    told = [*events(1, 50.0, *parts), scored(1, 58.1, [0.0, 0.5, 1.0, 1.0, 0.25, 0.0, 0.0, 0.0])]
    drawn = timeline([record(1, 8.0, 3.0)], told)
    assert drawn is not None
    assert drawn.reward_workers == [Bar("reward", 1, 2, 0.5), Bar("reward", 2, 4), Bar("reward", 4, 5, 0.25)]
    assert drawn.idle == {"engines": 0.375, "rewards": pytest.approx(1 - 2.75 / 8), "ranks": 0.625}
    assert list(drawn.lanes) == ["engines", "rewards", "ranks"]
    assert drawn.ranks[-1] == Bar("update_weights", 7.5, 8.0)


def test_reward_workers_without_work_are_idle_and_of_those_who_do_not_say_nothing_is_drawn() -> None:
    parts = ("rollout", 0.0), ("update_weights", 7.5)
    idle = timeline([record(1, 8.0, 3.0)], [*events(1, 50.0, *parts), scored(1, 58.1, [0.0] * 4)])
    unknown = timeline([record(1, 8.0, 3.0)], events(1, 50.0, *parts))
    assert idle is not None
    assert unknown is not None
    assert idle.idle["rewards"] == 1.0
    assert "rewards" not in unknown.idle


def test_of_a_step_that_was_begun_twice_the_last_scoring_is_drawn() -> None:
    first = [*events(3, 10.0, ("rollout", 0.0), ("update_actor", 1.0)), scored(3, 12.0, [1.0, 1.0])]
    again = [*events(3, 90.0, ("rollout", 0.0), ("update_actor", 3.0)), scored(3, 94.0, [0.0, 1.0])]
    drawn = timeline([record(3, 4.0, 1.0)], first + again)
    assert drawn is not None
    assert drawn.reward_workers == [Bar("reward", 2.0, 4.0)]


def test_every_lane_is_in_the_picture(tmp_path: Path) -> None:
    told = [*events(1, 50.0, ("rollout", 0.0), ("update_actor", 5.0)), scored(1, 58.1, [0.0, 0.5])]
    drawn = timeline([record(1, 8.0, 3.0)], told)
    assert drawn is not None
    panel = Figure().subplots()
    draw_timeline(panel, drawn)
    assert [label.get_text() for label in panel.get_yticklabels()] == ["ranks", "rewards", "engines"]
    bars = [bar for bar in panel.patches if isinstance(bar, Rectangle)]
    half = [(bar.get_y(), bar.get_height()) for bar in bars if bar.get_x() == bar.get_width() == 4.0]
    assert half == [(pytest.approx(1 - 0.31), pytest.approx(0.31))]


def test_files_of_earlier_runs_have_none() -> None:
    assert timeline([{"step": 1, "time/step": 3.0}], events(1, 0.0, ("rollout", 0.0))) is None
    assert timeline([record(1, 3.0, 1.0)], []) is None
    assert timeline([], []) is None
