"""What a comparison says of runs that aren't as one would like them."""

from __future__ import annotations

import math

import pytest

from mrpo.compare.comparison import compare_runs
from mrpo.compare.run import Run
from mrpo.errors import ConfigError
from mrpo.evaluation.compare import LENGTH
from tests.unit.compare.runs import a_run

pytestmark = pytest.mark.unit


def runs_of(group: str, seeds: range, shift: float = 0.0) -> list:
    """Runs that end at their seed's tenth and the shift."""
    return [a_run(f"{group}{seed}", seed, group, correct=[0, 0, 0, seed / 10 + shift]) for seed in seeds]


def test_groups_are_compared_seed_by_seed() -> None:
    found = compare_runs([*runs_of("a", range(6)), *runs_of("b", range(6), 0.2)])
    line = found.line("b", "correct")
    assert line.difference is not None
    assert line.difference.value == pytest.approx(0.2)
    assert (line.pairs, line.p_holm, line.verdict) == (6, 0.03125, "higher")
    assert found.line("a", "correct").verdict == ""
    assert found.line("a", "correct").difference is None


def test_a_lower_value_and_an_unclear_one_are_called_so() -> None:
    assert compare_runs([*runs_of("a", range(6)), *runs_of("b", range(6), -9)]).lines[1].verdict == "lower"
    mixed = [a_run(f"b{n}", n, "b", correct=[0, 0, 0, n / 10 + (-1) ** n]) for n in range(6)]
    assert compare_runs([*runs_of("a", range(6)), *mixed]).lines[1].verdict == "no difference shown"


def test_too_few_seeds_are_said_to_be_too_few_and_never_no_difference() -> None:
    found = compare_runs([*runs_of("a", range(3)), *runs_of("b", range(3), 0.2)])
    assert found.line("b", "correct").verdict == "too few seeds"
    assert any("can't go below p = 0.25, and 1 tests need 6 seeds" in note for note in found.notes)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = compare_runs([*runs_of("a", range(4)), *runs_of("b", range(2, 6), 0.2)])
    line = found.line("b", "correct")
    assert line.difference is not None
    assert (line.pairs, round(line.difference.value, 6)) == (2, 0.2)
    assert line.mean is not None
    assert line.mean.value == pytest.approx(0.55)


def test_groups_without_a_common_seed_have_no_test() -> None:
    unknown = [a_run(f"b{n}", None, "b", correct=[0, 0, 0, 1.0]) for n in range(2)]
    for others in (unknown, runs_of("b", range(6, 9))):
        found = compare_runs([*runs_of("a", range(3)), *others])
        line = found.line("b", "correct")
        assert (line.pairs, line.difference, line.p, line.verdict) == (0, None, None, "too few seeds")
        assert any("b: no seed in common with a" in note for note in found.notes)


def test_runs_of_unknown_seeds_are_never_paired() -> None:
    runs = [a_run(f"{group}{n}", None, group, correct=[0.0, 0, 0, n]) for group in "ab" for n in range(2)]
    line = compare_runs(runs).line("b", "correct")
    assert (line.pairs, line.difference, line.verdict) == (0, None, "too few seeds")


def test_a_curve_is_of_the_runs_that_have_the_step() -> None:
    runs = [a_run("x", 0, correct=[1.0, 1, math.nan]), a_run("y", 1, correct=[3.0, math.nan, 5.0])]
    [curve] = compare_runs(runs).curves
    assert (curve.x, curve.median, curve.runs) == ([1, 2, 3], [2, 1, 5], [2, 1, 1])
    thinned = a_run("z", 1, correct=[3.0, 4.0])
    every_second = Run("z", thinned.steps_T * 2 - 1, thinned.measures, {"steps": thinned.steps_T * 2 - 1}, group="a")
    [curve] = compare_runs([runs[0], every_second]).curves
    assert (curve.median, curve.runs) == ([2, 1, 4], [2, 1, 1])


def test_runs_of_one_seed_are_one_observation() -> None:
    twice = [a_run("b0", 0, "b", correct=[0.0] * 4), a_run("b0'", 0, "b", correct=[1.0] * 4)]
    found = compare_runs([*runs_of("a", range(2)), *twice])
    mean = found.line("b", "correct").mean
    assert mean is not None
    assert (mean.value, mean.low, found.line("b", "correct").pairs) == (0.5, None, 1)
    assert any("several runs of seed 0" in note for note in found.notes)


def test_runs_are_cut_where_the_shortest_ends_and_it_is_said() -> None:
    found = compare_runs([a_run("long", correct=[0] * 4 + [1.0] * 96), a_run("short", 1, correct=[0, 0, 0, 0.5])])
    assert found.end == 4
    assert found.lines[0].finals == {"long": 0.0, "short": 0.5}
    assert any("compared up to 4 steps, where short ends" in note and "long (100)" in note for note in found.notes)


@pytest.mark.parametrize("state", ["failed", "stopped", "unfinished"])
def test_a_run_that_did_not_end_well_is_named_and_left_out(state: str) -> None:
    runs = [*runs_of("a", range(3)), a_run("broken", 7, "a", state, correct=[9.0])]
    found = compare_runs(runs)
    assert (found.end, list(found.lines[0].finals)) == (4, ["a0", "a1", "a2"])
    assert any(f"broken: left out, {state} after step 1" in note for note in found.notes)
    assert compare_runs(runs, unfinished=True).end == 1
    with pytest.raises(ConfigError, match="broken: left out"):
        compare_runs(runs[-1:])


def test_a_reward_that_only_some_runs_have_is_compared_among_those() -> None:
    rich = [a_run(f"b{n}", n, "b", correct=[0.5] * 4, polite=[n / 10] * 4) for n in range(2)]
    found = compare_runs([*runs_of("a", range(2)), *rich])
    assert found.line("a", "polite").mean is None
    assert (found.line("b", "polite").difference, found.line("b", "polite").p) == (None, None)
    assert any("polite: a0, a1 of a has no value" in note for note in found.notes)


def test_missing_steps_are_left_out_and_never_0() -> None:
    found = compare_runs([a_run("x", correct=[0.0, 0.5, math.nan, 0.5, 0.5, math.nan, 0.5, math.nan])])
    assert found.lines[0].finals == {"x": 0.5}
    [curve] = found.curves
    assert curve.x == [1, 2, 4, 5, 7]
    nothing = compare_runs([a_run("x", correct=[0.5] * 4, polite=[0.5, 0.5, 0.5, math.nan])])
    assert nothing.line("a", "polite").finals == {"x": None}


def test_negative_scores_have_targets_and_fronts() -> None:
    runs = [
        a_run("x", 0, "x", cost=[-9, -4, -2, -1.0], speed=[0.0] * 4),
        a_run("y", 0, "y", cost=[-9.0] * 4, speed=[1] * 4),
    ]
    found = compare_runs(runs, targets={"cost": -3.0}, pareto=("cost", "speed"))
    reached = [line.reached for line in found.lines if line.measure == "cost"]
    assert [(one.at, one.median, one.unit) for one in reached if one] == [
        ((3.0,), 3.0, "steps"),
        ((None,), None, "steps"),
    ]
    assert found.front == {"x": True, "y": True}


def test_most_runs_decide_when_a_target_is_reached() -> None:
    values: list[list[float]] = [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    runs = [a_run(f"x{n}", n, correct=of_run) for n, of_run in enumerate(values)]
    reached = compare_runs(runs, targets={"correct": 1.0}).lines[0].reached
    assert reached is not None
    assert (reached.at, reached.median) == ((2, 3, None), 3)


def test_length_is_described_and_not_tested() -> None:
    runs = [
        a_run(f"{g}{n}", n, g, "done", **{"correct": [0.0] * 4, LENGTH: [9.0 + n] * 4}) for g in "ab" for n in range(6)
    ]
    found = compare_runs(runs)
    line = found.line("b", LENGTH)
    assert line.difference is not None
    assert (line.p, line.verdict) == (None, "")
    assert found.line("b", "correct").p_holm == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "c"}, "--baseline: unknown group 'c'"),
        ({"targets": {"corect": 1.0}}, "--target: unknown reward 'corect'. Did you mean 'correct'"),
        ({"pareto": ("correct", "b")}, "--pareto: unknown reward 'b'"),
        ({"axis": "tokens"}, "--per: given tokens, which a0 doesn't record"),
    ],
)
def test_what_is_not_there_is_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_runs([*runs_of("a", range(2)), *runs_of("b", range(2))], **options)
