"""Compare what each estimator would do with the rollouts of a file, which rewards it would raise, and which one fits.

Reads what frameworks leave: parquet (TRL), JSON lines with a rollout a line (mrpo, verl, TRL, prime-rl) or a step a
line (ms-swift, NeMo-RL), or a folder of such files. It needs a prompt's identity (or --group-size) and a column per
reward (nested columns as outer.inner). Columns are found by their names or named by options, and what was taken as what
is printed. A prompt's rollouts of different steps are different groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from mrpo.cli._app import examples, new_app
from mrpo.cli._audit_plot import plot as draw
from mrpo.cli._audit_rows import Rollouts, read_rollouts
from mrpo.cli._table import percent, print_whole, table
from mrpo.config.alarms import AlarmsConfig
from mrpo.config.base import config_errors
from mrpo.config.estimators import ESTIMATOR_CONFIGS
from mrpo.errors import ConfigError
from mrpo.exit_code import ExitCode
from mrpo.record.alarms import past

if TYPE_CHECKING:
    from mrpo.advantages import AdvantageResult
    from mrpo.advantages.recommend import Recommendation

T = TypeVar("T")

SCALE_DEPENDENT = tuple(name for name, options in ESTIMATOR_CONFIGS.items() if options.scale_dependent)

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo audit rollouts.jsonl --plot audit.png",
        "mrpo audit rollouts.jsonl --rewards correct,format --weights correct=1,format=0.5",
        "mrpo audit rollouts.jsonl --prompt question_id --ranges correct=-3:3",
        "mrpo audit output/completions           # TRL's folder of parquet files",
        "mrpo audit train_data_step3.jsonl --group-size 8",
    ),
)
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet, JSON lines, or a folder of them.")],
    prompt: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The prompt's identity, else found by its name.")
    ] = None,
    rewards: Annotated[
        str | None, typer.Option(metavar="COLUMN,…", help="The rewards, else found by name and type.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(metavar="N", help="So many rows in a row answer one prompt, where no column says.")
    ] = None,
    weights: Annotated[str, typer.Option(metavar="NAME=NUMBER,…", help="Weights of rewards, else 1.")] = "",
    ranges: Annotated[str, typer.Option(metavar="NAME=LOW:HIGH,…", help="Known bounds of rewards.")] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Where a picture goes.")] = None,
) -> ExitCode:
    rollouts = read_rollouts(file, prompt, rewards, group_size)
    by_name = pairs("--weights", weights, float, "name=number"), pairs("--ranges", ranges, _bounds, "name=low:high")
    try:
        with config_errors():
            results, bounds = run_all(rollouts, *by_name)
    except ConfigError:
        raise
    except ValueError as error:  # a score that is no number
        raise ConfigError(f"{file}: {error}") from None
    show(rollouts, results, bounds, _advise(rollouts, results, bounds))
    if plot is not None:
        draw(plot, results)
    return ExitCode.DONE


def pairs(option: str, text: str, read: Callable[[str], T], form: str) -> dict[str, T]:
    """What an option like ``--weights`` says of each name.

    >>> pairs("--weights", "a=1, b=0.5", float, "name=number")
    {'a': 1.0, 'b': 0.5}
    """
    values = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.rpartition("=")
        try:
            values[name] = read(value)
        except ValueError:
            raise ConfigError(f"{option}: given {part!r}, allowed: {form}, comma-separated.") from None
    return values


def _bounds(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(":"))
    return low, high


def run_all(
    rollouts: Rollouts, weights: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, AdvantageResult], dict[str, tuple[float, float]]]:
    """Every estimator with its defaults. Where one needs bounds that nobody declared, the observed ones are used; they
    come back with the results."""
    from mrpo.advantages import compute_each

    observed = _observed_bounds(rollouts, ranges)
    config = {"names": rollouts.names, "weights": dict(weights), "ranges": dict(ranges)}
    names = list(ESTIMATOR_CONFIGS)
    if not observed:
        return compute_each(rollouts.rewards_NK, rollouts.group_ids_N, config, names), observed
    plain = compute_each(
        rollouts.rewards_NK, rollouts.group_ids_N, config, [name for name in names if name not in SCALE_DEPENDENT]
    )
    config["ranges"] = {**observed, **ranges}
    scaled = compute_each(rollouts.rewards_NK, rollouts.group_ids_N, config, SCALE_DEPENDENT)
    return {name: (plain | scaled)[name] for name in names}, observed


def _observed_bounds(rollouts: Rollouts, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Of the rewards that leave [0, 1] and have no declared bounds."""
    import torch

    observed = {}
    for name, column_N in zip(rollouts.names, rollouts.rewards_NK.unbind(dim=1), strict=True):
        low, high = float(column_N.nan_to_num(nan=torch.inf).min()), float(column_N.nan_to_num(nan=-torch.inf).max())
        if name not in ranges and (low < 0 or high > 1) and -torch.inf < low < high < torch.inf:
            observed[name] = (low, high)
    return observed


def _advise(
    rollouts: Rollouts, results: Mapping[str, AdvantageResult], observed: Mapping[str, tuple[float, float]]
) -> Recommendation:
    from mrpo.advantages.recommend import recommend

    metrics = {estimator: result.diagnostics for estimator, result in results.items()}
    return recommend(rollouts.names, metrics, [name for name in rollouts.names if name not in observed])


def show(
    rollouts: Rollouts,
    results: Mapping[str, AdvantageResult],
    observed: Mapping[str, tuple[float, float]],
    advice: Recommendation,
) -> None:
    console, names, metrics = Console(highlight=False), rollouts.names, results["gdpo"].diagnostics
    groups = len(rollouts.group_ids_N.unique())
    size = f"{len(rollouts.rewards_NK):,} rollouts in {groups:,} groups by {rollouts.prompt!r}"
    console.print(f"{size}; rewards: {', '.join(names)}", markup=False)
    if rollouts.left_out:
        others = ", ".join(f"{name} ({reason})" for name, reason in rollouts.left_out.items())
        console.print(f"not taken as rewards: {others}; --rewards takes others", markup=False)
    if groups == len(rollouts.rewards_NK):
        console.print(f"note: no two rollouts have the same {rollouts.prompt}, so there is nothing to compare")
    headings: tuple[str, ...] = ("reward", "mean", "missing", "constant groups", "saturation")
    print_whole(console, table("Rewards", headings, _rewards(names, metrics)))
    if len(names) > 1:
        headings = ("rewards", "correlation", "conflicting rollouts")
        print_whole(console, table("Pairs of rewards, within groups", headings, _pairs_of_rewards(names, metrics)))
    caption = "lost: distinct groups no longer told apart; max: of |advantage|; ≠ grpo: rollouts with the other sign"
    headings = ("estimator", "kept", "lost", "max", "≠ grpo", *names)
    title = "Estimators, and what each reward weighs in them"
    print_whole(console, table(title, headings, _estimators(names, results), caption=caption))
    caption = "correlation with the advantage, ± by bootstrap over prompt groups (95 %): what one update does, about"
    title = "What each estimator would make of each reward"
    print_whole(console, table(title, ("estimator", *names), _forecasts(rollouts, results), caption=caption))
    for name, (low, high) in observed.items():
        console.print(f"{name}: no bounds given; {', '.join(SCALE_DEPENDENT)} used the observed [{low:g}, {high:g}]")
    console.print(f"[bold]Recommendation: {advice.estimator}[/bold]")
    for reason in advice.reasons:
        console.print(f"  because {reason}", markup=False)
    for caution in advice.cautions:
        console.print(f"  note: {caution}", markup=False)
    for alarm in past(results[advice.estimator].diagnostics, AlarmsConfig()):
        console.print(f"  alarm with {advice.estimator}: {alarm}", markup=False)


def _rewards(names: Sequence[str], metrics: Mapping[str, float]) -> Iterator[tuple[str | None, ...]]:
    for name in names:
        mean = metrics.get(f"reward/{name}/mean")
        shares = (metrics.get(f"reward/{name}/{key}") for key in ("missing_share", "zero_variance_share", "saturation"))
        yield name, None if mean is None else f"{mean:.3f}", *map(percent, shares)


def _pairs_of_rewards(names: Sequence[str], metrics: Mapping[str, float]) -> Iterator[tuple[str | None, ...]]:
    for first, second in itertools.combinations(names, 2):
        correlation = metrics.get(f"advantage/correlation/{first}/{second}")
        conflict = metrics.get(f"advantage/conflict/{first}/{second}")
        yield f"{first} – {second}", None if correlation is None else f"{correlation:+z.2f}", percent(conflict)


def _estimators(names: Sequence[str], results: Mapping[str, AdvantageResult]) -> Iterator[tuple[str | None, ...]]:
    baseline_N = results["grpo"].advantages_N
    for estimator, result in results.items():
        metrics = result.diagnostics
        flipped = (result.advantages_N * baseline_N < 0).double().mean()
        yield (
            estimator,
            percent(metrics.get("advantage/keep_ratio"), 0),
            percent(metrics["advantage/collapse"]),
            f"{metrics['advantage/abs_max']:.2f}",
            percent(float(flipped)),
            *(percent(metrics.get(f"reward/{name}/effective_weight"), 0) for name in names),
        )


def _forecasts(rollouts: Rollouts, results: Mapping[str, AdvantageResult]) -> Iterator[tuple[str | None, ...]]:
    """A cell a reward: rises, stays or falls, by its correlation with the estimator's advantage."""
    import torch

    from mrpo.advantages.forecast import bootstrap, covariances
    from mrpo.advantages.groups import Groups

    groups, scores_NK = Groups.of(rollouts.group_ids_N), rollouts.rewards_NK
    products, counts = [], []
    for result in results.values():
        found = covariances(scores_NK, result.advantages_N, groups, result.keep_N)
        kept_NK, kept_N = scores_NK[result.keep_N], result.advantages_N[result.keep_N]
        scale_K = torch.stack([score_N[~score_N.isnan()].std(correction=0) for score_N in kept_NK.unbind(dim=1)])
        products.append(found.products_GK / (scale_K * kept_N.std(correction=0)))
        counts.append(found.count_GK)
    ends = bootstrap(torch.cat(products, dim=1), torch.cat(counts, dim=1))
    low, high = (end.reshape(len(results), -1).tolist() for end in ends)
    for estimator, lows, highs in zip(results, low, high, strict=True):
        yield estimator, *map(_forecast, lows, highs)


def _forecast(low: float, high: float) -> str | None:
    """None: the reward, or the advantage, is the same everywhere."""
    from mrpo.advantages.forecast import direction

    return None if low != low else f"{direction(low, high)} {(low + high) / 2:+z.2f}±{(high - low) / 2:.2f}"
