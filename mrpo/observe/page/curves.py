"""A run's metrics as columns, and which charts are drawn of them, in the order of the page."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mrpo.observe.page.columns import numbers, pack, whole
from mrpo.observe.timing import PHASE_COLOURS, phase_seconds
from mrpo.record import metrics
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase

MAX_STEPS = 2000
"""Steps that charts have; of a longer run every second, third, … step and the last one."""
VALIDATION, SECONDS = "page/validation/", "page/seconds/"
"""Before the names of columns that are worked out here and are no metrics: a reward's score in validations, a phase's
seconds."""


class Series(NamedTuple):
    """One line of a chart."""

    label: str
    metric: str
    place: int = 0
    """Of its colour, and of its dashes."""
    low: str = ""
    high: str = ""
    """Metrics between which a band is drawn."""
    std: str = ""
    """A metric: the band is this far below and above the line."""
    points: str = ""
    """A metric whose values are drawn as points on the line."""


class Chart(NamedTuple):
    """What is drawn together, one unit to a chart."""

    section: str
    title: str
    unit: str
    series: list[Series]
    low: float | None = None
    high: float | None = None
    """Ends of the axis that always show."""
    stack: bool = False
    colours: list[str] = []  # noqa: RUF012  (never changed)


_RESPONSES = (
    ("truncated", "share of rollouts", (("truncated", "rollout/truncated_share"), ("in validation", "validation/truncated_share"))),
    ("empty responses", "share of rollouts", (("empty", "rollout/aborted_ratio"),)),
    ("tool calls", "calls by a rollout", (("mean", "rollout/tool_calls/mean"), ("max", "rollout/tool_calls/max"))),
)  # fmt: skip
_POLICY = (
    ("entropy", "nats", (("entropy", "train/entropy"),)),
    ("KL", "nats", (("KL to the reference", "train/kl_loss"), ("KL of the update", "train/ppo_kl"))),
    ("gradient norm", "norm", (("gradient norm", "train/grad_norm"),)),
    ("engine and trainer", "probability", (("mean difference", "rollout/probs_diff/mean"), ("max", "rollout/probs_diff/max"))),
    ("clipped", "share of tokens", (("clipped", "train/pg_clipfrac"), ("below", "train/pg_clipfrac_lower"))),
    ("learning rate", "", (("learning rate", "train/lr"),)),
)  # fmt: skip
_BUDGET = (
    ("zero-signal groups", "share of groups", (("in the step", "budget/zero_signal"), ("had it been uniform", "budget/zero_signal/uniform"))),
    ("signal's variance", "mean over prompts", (("in the step", "budget/variance/realized"), ("predicted from the history", "budget/variance/predicted"))),
    ("predicted against realized variance", "correlation over prompts", (("correlation", "budget/variance/correlation"),)),
)  # fmt: skip
_ADVANTAGE = (
    ("distinct groups", "groups", (("by rewards", "advantage/distinct_rewards"), ("by advantage", "advantage/distinct"))),
    ("κ of DVAO", "", (("κ", "advantage/dvao_kappa"),)),
    ("kept by the filter", "share of rollouts", (("kept", "advantage/keep_ratio"),)),
)  # fmt: skip
_BY_REWARD = (
    ("effective weight", "share of the contributions' size", "effective_weight", 0.0, 1.0),
    ("share of the advantage's square", "share; below 0: against the rest", "advantage_share", 0.0, None),
    ("density", "share of groups in which it varies", "density", 0.0, 1.0),
    ("no variance within the group", "share of groups", "zero_variance_share", 0.0, 1.0),
    ("scheduled weight", "weight", "weight", 0.0, None),
    ("failed", "share of rollouts", "failed_share", 0.0, None),
    ("without a score: failed or not applicable", "share of rollouts", "missing_share", 0.0, None),
)
MATRICES = (("correlation", "advantage/correlation", -1.0), ("conflict", "advantage/conflict", 0.0))
"""Title, metric and smallest value of what is measured for each two rewards."""


def curves_of(records: Sequence[Record], events: Iterable[Record], rewards: Sequence[str]) -> dict[str, Any]:
    """What the page draws of a run.

    Returns:
        ``steps`` and ``metrics`` (columns), ``charts``, ``matrices``, ``marks`` (checkpoints and restarts by step), and
        ``every``: only every so many steps are here.
    """
    columns = _columns(records, rewards)
    every = -(-len(records) // MAX_STEPS) or 1
    chosen = sorted({*range(0, len(records), every), *([len(records) - 1] if records else [])})
    return {
        "steps": pack(array("i", (whole(records[place]["step"]) for place in chosen))),
        "metrics": {name: pack(array("d", (values[place] for place in chosen))) for name, values in columns.items()},
        "charts": [_as_json(chart) for chart in charts_of(columns, rewards)],
        "matrices": [
            {"title": title, "metric": metric, "low": low}
            for title, metric, low in MATRICES
            if any(name.startswith(f"{metric}/") for name in columns)
        ],
        "marks": marks_of(events),
        "every": every,
    }


def _columns(records: Sequence[Record], rewards: Sequence[str]) -> dict[str, array[float]]:
    """Every metric that is a number in some step, and what is worked out of them."""
    names = dict.fromkeys(name for record in records for name in record if name not in ("step", "time"))
    columns = {name: numbers(record.get(name) for record in records) for name in names}
    for reward in rewards:
        found = dict(zip(*metrics.validation(records, reward), strict=True))
        columns[VALIDATION + reward] = numbers(found.get(record["step"]) for record in records)
    columns |= {SECONDS + phase: numbers(seconds) for phase, seconds in phase_seconds(records).items()}
    return {name: values for name, values in columns.items() if any(value == value for value in values)}


def charts_of(columns: Iterable[str], rewards: Sequence[str]) -> list[Chart]:
    """The charts that a run with these columns has; a line without a column is left out, and a chart without a line."""
    known = set(columns)
    charts = [
        Chart(
            "Rewards",
            reward,
            "mean of a step; band: ±1 std",
            [Series("mean", f"reward/{reward}/mean", i, std=f"reward/{reward}/std", points=VALIDATION + reward)],
        )
        for i, reward in enumerate(rewards)
    ]
    for title, unit, metric, low, high in _BY_REWARD:
        lines = [Series(reward, f"reward/{reward}/{metric}", i) for i, reward in enumerate(rewards)]
        charts.append(Chart("Advantage", title, unit, lines, low, high))
    pairs = [(a, b) for place, b in enumerate(rewards) for a in rewards[:place]]
    for title, metric, low in MATRICES:
        lines = [Series(f"{a}, {b}", _pair(known, metric, a, b), i) for i, (a, b) in enumerate(pairs)]
        charts.append(Chart("Advantage", f"{title} within groups", "", lines, low, 1.0))
    charts += _plain("Advantage", _ADVANTAGE)
    sizes = [Series("median", "budget/n/median", 0, "budget/n/p10", "budget/n/p90")]
    sizes += [Series(end, f"budget/n/{end}", place) for place, end in ((2, "min"), (1, "max"))]
    charts.append(Chart("Rollout budget", "rollouts per prompt", "rollouts; band: 10 % to 90 %", sizes, low=0.0))
    charts += _plain("Rollout budget", _BUDGET)
    length = "rollout/response_length/"
    lengths = [Series("mean", f"{length}mean", 0, f"{length}min", f"{length}max")]
    charts.append(Chart("Responses", "response length", "tokens; band: shortest to longest", lengths, low=0.0))
    charts += _plain("Responses", _RESPONSES) + _plain("Policy", _POLICY)
    phases = [name.removeprefix(SECONDS) for name in columns if name.startswith(SECONDS)]
    stacked = [Series(phase, SECONDS + phase, place) for place, phase in enumerate(phases)]
    colours = [PHASE_COLOURS.get(phase, "#BBBBBB") for phase in phases]
    charts.append(Chart("Time", "step time by phase", "seconds", stacked, low=0.0, stack=True, colours=colours))
    idle = [Series(f"{who} idle", f"time/{who}_idle", place) for place, who in enumerate(("engine", "rank"))]
    charts.append(Chart("Time", "idle", "seconds of a step", idle, low=0.0))
    return [shown for chart in charts if (shown := _measured(chart, known)).series]


def _plain(section: str, rows: Iterable[tuple[str, str, tuple[tuple[str, str], ...]]]) -> list[Chart]:
    return [
        Chart(section, title, unit, [Series(label, metric, place) for place, (label, metric) in enumerate(lines)])
        for title, unit, lines in rows
    ]


def _pair(known: set[str], metric: str, a: str, b: str) -> str:
    return next((name for name in (f"{metric}/{a}/{b}", f"{metric}/{b}/{a}") if name in known), "")


def _measured(chart: Chart, known: set[str]) -> Chart:
    lines = [
        line._replace(**{end: "" for end in ("low", "high", "std", "points") if getattr(line, end) not in known})
        for line in chart.series
        if line.metric in known
    ]
    return chart._replace(series=lines)


def _as_json(chart: Chart) -> dict[str, Any]:
    return chart._asdict() | {"series": [line._asdict() for line in chart.series]}


def marks_of(events: Iterable[Record]) -> list[dict[str, Any]]:
    """Checkpoints, by the step that they stand for the end of, and where the run was started again."""
    marks: dict[tuple[str, int], dict[str, Any]] = {}
    started = False
    for event in events:
        step = event.get("step")
        if event["phase"] == Phase.SAVE and isinstance(step, int):
            marks["checkpoint", step] = {"kind": "checkpoint", "step": step}
        if event["phase"] == Phase.PLAN:
            first = event.get("first_step", 1)
            if started and isinstance(first, int):
                marks["restart", first] = {"kind": "restart", "step": first - 0.5}
            started = True
    return sorted(marks.values(), key=lambda mark: (mark["step"], mark["kind"]))
