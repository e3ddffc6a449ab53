"""Which charts are drawn of a run's columns, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mrpo.observe.timing import PHASE_COLOURS

VALIDATION, SECONDS = "page/validation/", "page/seconds/"
"""Before the names of columns that ``curves`` works out and that are no metrics: a reward's score in validations, a
phase's seconds."""


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
    (
        "truncated",
        "share of rollouts",
        (("truncated", "rollout/truncated_share"), ("in validation", "validation/truncated_share")),
    ),
    ("empty responses", "share of rollouts", (("empty", "rollout/aborted_ratio"),)),
    ("tool calls", "calls by a rollout", (("mean", "rollout/tool_calls/mean"), ("max", "rollout/tool_calls/max"))),
)
_POLICY = (
    ("entropy", "nats", (("entropy", "train/entropy"),)),
    ("KL", "nats", (("KL to the reference", "train/kl_loss"), ("KL of the update", "train/ppo_kl"))),
    ("gradient norm", "norm", (("gradient norm", "train/grad_norm"),)),
    (
        "engine and trainer",
        "probability",
        (("mean difference", "rollout/probs_diff/mean"), ("max", "rollout/probs_diff/max")),
    ),
    ("clipped", "share of tokens", (("clipped", "train/pg_clipfrac"), ("below", "train/pg_clipfrac_lower"))),
    ("learning rate", "", (("learning rate", "train/lr"),)),
)
_BUDGET = (
    (
        "zero-signal groups",
        "share of groups",
        (("in the step", "budget/zero_signal"), ("had it been uniform", "budget/zero_signal/uniform")),
    ),
    (
        "signal's variance",
        "mean over prompts",
        (("in the step", "budget/variance/realized"), ("predicted from the history", "budget/variance/predicted")),
    ),
    (
        "predicted against realized variance",
        "correlation over prompts",
        (("correlation", "budget/variance/correlation"),),
    ),
)
_ADVANTAGE = (
    (
        "distinct groups",
        "groups",
        (("by rewards", "advantage/distinct_rewards"), ("by advantage", "advantage/distinct")),
    ),
    ("κ of DVAO", "", (("κ", "advantage/dvao_kappa"),)),
    ("kept by the filter", "share of rollouts", (("kept", "advantage/keep_ratio"),)),
)
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
    def there(name: str) -> str:
        return name if name in known else ""

    lines = [
        line._replace(low=there(line.low), high=there(line.high), std=there(line.std), points=there(line.points))
        for line in chart.series
        if line.metric in known
    ]
    return chart._replace(series=lines)
