"""Every alarm is raised on a run that must raise it, once, and by none of three healthy runs.

Shapes: N rollouts, K rewards.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mrpo.advantages import compute_advantages
from mrpo.config.alarms import AlarmsConfig
from mrpo.config.load import validate
from mrpo.errors import ConfigError
from mrpo.record.alarm_rules import FIRST_STEPS, RULES
from mrpo.record.alarms import CLEARED_AFTER, Alarms, Change, alarm_notes, raised, spans
from mrpo.record.jsonl import as_read
from mrpo.record.metrics import rename
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.step.outcome import truncated_share

pytestmark = pytest.mark.unit

GROUPS, SIZE, STEPS = 16, 8, 12
SHAPE = GROUPS, SIZE
GROUP_N = torch.arange(GROUPS).repeat_interleave(SIZE)
HEALTHY = json.loads(gzip.decompress(Path(__file__).with_name("healthy_quickstarts.json.gz").read_bytes()))
"""Lines of the quickstart's first 30 steps by estimator, of what alarms look at."""


def coin(draw: np.random.Generator, chance: float = 0.5) -> NDArray[Any]:
    return (draw.random(SHAPE) < chance).astype(float)


def line_of(
    rewards: dict[str, NDArray[Any]],
    lengths_N: NDArray[Any],
    estimator: str = "gdpo",
    truncated: float = 0.0,
    verl: dict[str, float] | None = None,
    **config: Any,
) -> dict[str, Any]:
    """A step's line, of the code that makes it in a run."""
    rewards_NK = torch.tensor(np.stack([of.ravel() for of in rewards.values()], axis=1))
    result = compute_advantages(
        rewards_NK,
        GROUP_N,
        {"estimator": estimator, "names": list(rewards), **config},
        lengths_N=torch.tensor(lengths_N.ravel()).long(),
    )
    metrics = result.diagnostics | {f"reward/{name}/std": float(of.std()) for name, of in rewards.items()}
    metrics |= {
        f"rollout/{name}": share
        for name, share in truncated_share(n < truncated * GROUPS * SIZE for n in range(GROUPS * SIZE)).items()
    }
    usual = {"actor/entropy": 1.0, "training/rollout_probs_diff_mean": 1e-7, "budget/prompts": float(GROUPS)}
    return as_read(rename(metrics | usual | (verl or {})))


def run_of(draw_step: Callable[[np.random.Generator, int], dict[str, Any]], steps: int = STEPS) -> list[dict[str, Any]]:
    lines = []
    for step in range(1, steps + 1):
        draw = np.random.default_rng(step)
        given = {"lengths_N": draw.integers(5, 40, SHAPE), **draw_step(draw, step)}
        given.setdefault("rewards", {"correct": coin(draw), "tagged": coin(draw), "short": coin(draw)})
        lines.append({"step": step, **line_of(**given)})
    return lines


def told(lines: list[dict[str, Any]], config: AlarmsConfig | None = None) -> list[tuple[int, Change]]:
    """Every change, with the step that made it."""
    alarms = Alarms(config or AlarmsConfig())
    return [(line["step"], change) for line in lines for change in alarms.judge(line)]


def dominant(draw: np.random.Generator, step: int) -> dict[str, Any]:
    rewards = {"correct": 6 * coin(draw) - 3, "tagged": coin(draw)}
    return {"rewards": rewards, "estimator": "grpo"}


def constant(draw: np.random.Generator, step: int) -> dict[str, Any]:
    return {"rewards": {"correct": coin(draw), "tagged": np.zeros(SHAPE), "short": coin(draw)}}


def falling(draw: np.random.Generator, step: int) -> dict[str, Any]:
    correct = coin(draw)
    against = np.where(draw.random(SHAPE) < 0.8, 1 - correct, coin(draw))
    return {"rewards": {"correct": correct, "short": against}, "weights": {"correct": 1.0, "short": 0.2}}


def truncated(draw: np.random.Generator, step: int) -> dict[str, Any]:
    return {"truncated": 0.75}


def filtered(draw: np.random.Generator, step: int) -> dict[str, Any]:
    correct = coin(draw)
    return {"rewards": {"correct": correct, "short": 1 - correct}, "estimator": "gd2po"}


def resampled(draw: np.random.Generator, step: int) -> dict[str, Any]:
    return {"verl": {"training/filter_groups/evicted_samples": 3.0 * GROUPS}}


def collapsing(draw: np.random.Generator, step: int) -> dict[str, Any]:
    return {"verl": {"actor/entropy": 0.8 * 0.5**step}}


def drifting(draw: np.random.Generator, step: int) -> dict[str, Any]:
    return {"verl": {"training/rollout_probs_diff_mean": 2e-3 if step <= 5 else 2e-2 + 1e-3 * (step % 2)}}


def copied(draw: np.random.Generator, step: int) -> dict[str, Any]:
    correct = coin(draw)
    return {"rewards": {"correct": correct, "right": 3 * correct - 1, "short": coin(draw)}}


def lengthy(draw: np.random.Generator, step: int) -> dict[str, Any]:
    lengths_N = draw.integers(5, 40, SHAPE)
    detailed = lengths_N + 2 * draw.standard_normal(SHAPE)
    return {"rewards": {"correct": coin(draw), "detailed": detailed}, "lengths_N": lengths_N}


MUST_RAISE = [
    ("dominant_reward", "correct", dominant, 5),
    ("constant_reward", "tagged", constant, 5),
    ("falling_reward", "short", falling, 3),
    ("truncated", "", truncated, 1),
    ("filtered", "algorithm.estimator", filtered, 5),
    ("filtered", "budget.filter_groups", resampled, 5),
    ("entropy_collapse", "", collapsing, 11),
    ("engine_drift", "", drifting, 8),
    ("copied_reward", "correct/right", copied, 5),
    ("length_reward", "detailed", lengthy, 5),
]


def test_every_alarm_has_a_run_that_must_raise_it() -> None:
    assert {name for name, *_ in MUST_RAISE} == set(RULES) == set(AlarmsConfig.model_fields)


@pytest.mark.parametrize(("name", "about", "draw_step", "step"), MUST_RAISE)
def test_alarm_is_raised_once_with_what_to_do(
    name: str, about: str, draw_step: Callable[..., dict[str, Any]], step: int
) -> None:
    lines = run_of(draw_step)
    found = [(at, change) for at, change in told(lines) if (change.name, change.about) == (name, about)]
    assert [change.phase for _, change in found] == [Phase.ALARM]
    ((at, change),) = found
    assert at == step
    assert change.detail.endswith(f". {RULES[name].remedy}.")
    assert {word for word in about.split("/") if word} <= set(change.detail.replace(",", "").split())


@pytest.mark.parametrize("estimator", ["gdpo", "grpo", "dvao"])
def test_healthy_quickstart_raises_none(estimator: str) -> None:
    lines = HEALTHY[estimator]
    assert len(lines) == 30
    assert told(lines) == []


def test_healthy_lines_are_measured_by_every_alarm_but_that_of_a_filter_they_lack() -> None:
    first = HEALTHY["gdpo"][:FIRST_STEPS]
    measured = {name for name, rule in RULES.items() if any(rule.measure(HEALTHY["gdpo"][9], first))}
    assert measured == set(RULES)


def test_independent_rewards_raise_none() -> None:
    assert told(run_of(lambda draw, step: {}, steps=20)) == []


def learned(draw: np.random.Generator, step: int) -> dict[str, Any]:
    """``tagged`` rises to 1 in every rollout, and ``correct`` goes on."""
    return {"rewards": {"correct": coin(draw), "tagged": coin(draw, min(1.0, 0.4 + 0.1 * step))}}


def died(draw: np.random.Generator, step: int) -> dict[str, Any]:
    """``tagged`` falls to 0 in every rollout."""
    return {"rewards": {"correct": coin(draw), "tagged": coin(draw, max(0.0, 0.6 - 0.1 * step))}}


def test_a_reward_that_is_learned_is_no_cause_for_alarm_and_one_that_died_is() -> None:
    assert told(run_of(learned, steps=20)) == []
    found = {(change.name, change.about) for _, change in told(run_of(died, steps=20))}
    assert found >= {("constant_reward", "tagged"), ("dominant_reward", "correct")}


def test_a_reward_of_weight_0_dominates_nothing_and_is_forecast() -> None:
    def watched(draw: np.random.Generator, step: int) -> dict[str, Any]:
        correct = coin(draw)
        return {"rewards": {"correct": correct, "watched": 1 - correct}, "weights": {"correct": 1.0, "watched": 0.0}}

    assert {(change.name, change.about) for _, change in told(run_of(watched))} == {("falling_reward", "watched")}


def with_shares(shares: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"step": step, "time": float(step)} | ({} if share is None else {"rollout/truncated_share": share})
        for step, share in enumerate(shares, 1)
    ]


def test_an_alarm_is_cleared_after_as_many_steps_and_raised_anew() -> None:
    steps: dict[str, Any] = {"truncated": {"steps": 2}}
    shares = [0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, None, 0.1, 0.1, 0.9, 0.8]
    changes = [(at, change.phase, change.value) for at, change in told(with_shares(shares), AlarmsConfig(**steps))]
    assert changes == [(4, Phase.ALARM, 0.9), (10, Phase.ALARM_CLEARED, 0.9), (13, Phase.ALARM, 0.8)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.4, 0.6, None]), max_size=40), st.integers(1, 6))
def test_an_alarm_changes_in_turn_and_never_faster_than_it_may(shares: list[float | None], steps: int) -> None:
    settings: dict[str, Any] = {"truncated": {"steps": steps}}
    changes = told(with_shares(shares), AlarmsConfig(**settings))
    assert [change.phase for _, change in changes] == [Phase.ALARM, Phase.ALARM_CLEARED] * (len(changes) // 2) + [
        Phase.ALARM
    ] * (len(changes) % 2)
    for (before, _), (after, change) in pairwise(changes):
        assert after - before >= (steps if change.phase == Phase.ALARM else max(steps, CLEARED_AFTER))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.4, 0.6, None]), min_size=1, max_size=30), st.data())
def test_a_resumed_run_says_what_the_undisturbed_one_said(
    tmp_path_factory: pytest.TempPathFactory, shares: list[float | None], data: st.DataObject
) -> None:
    """Killed after some steps that its checkpoint lacks, which another policy has run."""
    lines, config = with_shares(shares), AlarmsConfig()
    undisturbed = told(lines)
    start = data.draw(st.integers(0, len(lines)))
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    for line in [*lines[:start], *({**line, "rollout/truncated_share": 0.9} for line in lines[start:])]:
        folder.write_metrics(line["step"], {name: v for name, v in line.items() if name not in ("step", "time")})
    alarms = Alarms.after(folder.metrics_until(start), config)
    changes = [(line["step"], change) for line in lines[start:] for change in alarms.judge(line)]
    assert changes == [(at, change) for at, change in undisturbed if at > start]


def test_a_line_says_what_is_raised_and_a_report_since_when() -> None:
    alarms, lines = Alarms(AlarmsConfig()), list[dict[str, Any]]()
    for line in with_shares([0.1, 0.6, 0.7, 0.1, 0.1, 0.1, 0.8]):
        alarms.judge(line)
        lines.append(line | alarms.metrics())
    assert [line.get("alarm/truncated") for line in lines] == [None, 0.6, 0.7, 0.7, 0.7, None, 0.8]
    assert [line["alarm/raised"] for line in lines] == [0, 1, 1, 1, 1, 0, 1]
    assert raised(lines[0]) == []
    assert [alarm.detail for alarm in raised(lines[-1])] == [
        "80% of the responses reached data.max_response_length before their end"
    ]
    assert [(span.first, span.last, span.is_raised) for span in spans(lines)] == [(7, 7, True), (2, 5, False)]
    assert [note["when"] for note in alarm_notes(lines)] == ["since step 7", "steps 2-5"]


def test_an_alarm_of_another_version_is_shown_by_its_name() -> None:
    (alarm,) = raised({"step": 1, "alarm/raised": 1.0, "alarm/new_kind/correct": 0.5})
    assert str(alarm) == "new_kind correct (0.5)."


def test_alarms_can_be_switched_off_and_rewards_left_out() -> None:
    off: dict[str, Any] = {"copied_reward": None}
    assert told(run_of(copied), AlarmsConfig(**off)) == []
    ignoring: dict[str, Any] = {"length_reward": {"ignore": ["detailed"]}}
    assert told(run_of(lengthy), AlarmsConfig(**ignoring)) == []
    none = Alarms(None)
    assert none.judge(run_of(truncated, steps=1)[0]) == []
    assert none.metrics() == {}


def content(**alarms: Any) -> dict[str, Any]:
    return {
        "recipe": "test",
        "model": {"path": "m"},
        "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 4},
        "rewards": {"correct": {"function": "r.py:c"}},
        "observe": {"alarms": alarms},
    }


def test_one_number_of_an_alarm_is_set_alone() -> None:
    found = validate(content(entropy_collapse={"at": 0.2})).observe.alarms
    assert found is not None
    assert found.entropy_collapse is not None
    assert (found.entropy_collapse.at, found.entropy_collapse.steps) == (0.2, 5)
    assert found.truncated == AlarmsConfig().truncated


@pytest.mark.parametrize(
    ("alarms", "message"),
    [
        ({"truncatd": None}, r"observe\.alarms: unknown key 'truncatd'\. Did you mean 'truncated'\?"),
        ({"truncated": {"step": 2}}, r"observe\.alarms\.truncated: unknown key 'step'\. Did you mean 'steps'\?"),
        ({"truncated": {"at": 50}}, r"observe\.alarms\.truncated\.at: given 50, .* less than or equal to 1"),
        ({"truncated": {"steps": 0}}, r"observe\.alarms\.truncated\.steps: given 0"),
        ({"truncated": {"ignore": ["correct"]}}, "unknown key 'ignore'"),
        ({"falling_reward": {"at": 2}}, r"observe\.alarms\.falling_reward\.at: given 2"),
        ({"length_reward": {"ignore": ["corect"]}}, r"length_reward\.ignore: unknown reward 'corect'.*'correct'"),
    ],
)
def test_a_wrong_threshold_is_refused(alarms: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(content(**alarms))


def test_the_documentation_has_every_alarm_with_its_threshold_and_remedy() -> None:
    page = (Path(__file__).parents[3] / "docs" / "alarms.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(RULES)
    for row, rule in zip(rows, RULES.values(), strict=True):
        threshold = getattr(AlarmsConfig(), rule.name)
        assert row.endswith(f"| {threshold.at:g} | {threshold.steps} | {rule.remedy} |")
