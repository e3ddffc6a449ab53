"""``mrpo audit FILE.jsonl``: what each estimator would do with the rollouts of a file, and which one fits.

Reads a line per rollout from any framework: a prompt id, and a column per reward (nested columns as ``outer.inner``).
Columns are found by their names or named by options. A prompt's rollouts of different steps are different groups.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.config.estimators import ESTIMATOR_CONFIGS
from mrpo.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from mrpo.advantages import AdvantageResult
    from mrpo.advantages.recommend import Recommendation

PROMPT_COLUMNS = (
    *("uid", "prompt_uid", "prompt_id", "group_id", "problem_id", "question_id", "task_id", "example_id"),
    *("prompt", "input", "question", "problem"),
)
"""Names of a prompt's identity, most specific first."""
STEP_COLUMNS = ("step", "global_step", "training_step", "iteration")
NOT_REWARDS = {
    *PROMPT_COLUMNS,
    *STEP_COLUMNS,
    *("id", "epoch", "index", "idx", "sample", "sample_id", "turn", "rank", "seed", "rollout_id", "advantage"),
    *("length", "prompt_length", "response_length", "completion_length", "num_tokens", "timestamp", "time"),
}
TOTALS = {"score", "reward", "total", "total_reward", "rewards.total"}
"""Usually the sum of the others: a reward only if there are no others."""
SCALE_DEPENDENT = tuple(name for name, options in ESTIMATOR_CONFIGS.items() if options.scale_dependent)


@dataclass(frozen=True)
class Rollouts:
    prompt: str
    names: tuple[str, ...]
    rewards_NK: Tensor
    group_ids_N: Tensor


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        rollouts = read_rollouts(options.file, options.prompt, options.rewards)
        results, bounds = run_all(rollouts, _floats("weights", options.weights), _bounds(options.ranges))
        advice = _advise(rollouts, results, bounds)
        _print(rollouts, results, bounds, advice)
        if options.plot:
            _plot(options.plot, results)
    except (ConfigError, ValueError, OSError) as error:
        print(f"mrpo audit: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mrpo audit", description="What each estimator would do with these rollouts.")
    parser.add_argument("file", type=Path, help="JSON lines, one rollout each")
    parser.add_argument("--prompt", help=f"column of the prompt's identity (default: the first of {PROMPT_COLUMNS})")
    parser.add_argument("--rewards", help="reward columns, comma-separated (default: found by name and type)")
    parser.add_argument("--weights", default="", help="say correct=1,format=0.5 (default: 1 each)")
    parser.add_argument("--ranges", default="", help="known bounds of rewards, say correct=-3:3")
    parser.add_argument("--plot", type=Path, help="write a picture of the comparison to this PNG")
    return parser


def read_rollouts(file: Path, prompt: str | None = None, rewards: str | None = None) -> Rollouts:
    """The reward matrix and group ids of a JSON-lines file. Nulls and absent columns are missing scores."""
    import numpy as np
    import torch

    table = _read_table(file)
    if table.num_rows == 0:
        raise ValueError(f"{file}: no rollouts in it.")
    prompt = _prompt_column(table, prompt)
    names = _reward_columns(table, prompt, rewards)
    columns = [_numbers(table, name) for name in names]
    group_ids = _codes(table, prompt)
    for step in STEP_COLUMNS:
        if step in table.column_names:
            step_codes = _codes(table, step)
            group_ids = group_ids * (int(step_codes.max()) + 1) + step_codes
            break
    return Rollouts(prompt, names, torch.from_numpy(np.stack(columns, axis=1)), torch.from_numpy(group_ids))


def _read_table(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json as paj

    if not file.is_file():
        raise ValueError(f"{file}: no such file.")
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: no rollouts in it.")
    try:
        table = paj.read_json(file, read_options=paj.ReadOptions(block_size=1 << 24))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file}: not JSON lines: {error}") from error
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _prompt_column(table: pa.Table, given: str | None) -> str:
    if given is not None:
        if given not in table.column_names:
            raise unknown_name("--prompt (column)", given, table.column_names)
        return given
    found = [name for name in PROMPT_COLUMNS if name in table.column_names]
    for name in found:
        if len(table.column(name).unique()) < table.num_rows:  # otherwise it names rollouts, not prompts
            return name
    if found:
        return found[0]
    raise ConfigError(
        f"--prompt: given none, and no column has a known name. Allowed: one of {', '.join(table.column_names)}."
    )


def _reward_columns(table: pa.Table, prompt: str, given: str | None) -> tuple[str, ...]:
    if given is not None:
        names = tuple(name.strip() for name in given.split(",") if name.strip())
        for name in names:
            if name not in table.column_names:
                raise unknown_name("--rewards (column)", name, table.column_names)
        return names
    numeric = [
        field.name
        for field in table.schema
        if _is_number(field.type) and field.name not in NOT_REWARDS and field.name != prompt
    ]
    parts = [name for name in numeric if name not in TOTALS]
    marked = [name for name in parts if "reward" in name.lower()]
    names = tuple(marked or parts or numeric)
    if not names:
        raise ConfigError(
            f"--rewards: given none, and no numeric column is left. Columns: {', '.join(table.column_names)}."
        )
    return names


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _numbers(table: pa.Table, name: str) -> Any:
    """A column as float64, NaN where null."""
    import pyarrow as pa

    column = table.column(name)
    if not (_is_number(column.type) or pa.types.is_null(column.type)):
        raise ValueError(f"reward column {name!r}: holds {column.type}, allowed: numbers, true/false or null.")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)


def _codes(table: pa.Table, name: str) -> Any:
    """A column's values numbered from 0. A rollout without one can't be grouped."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name!r}: missing in {column.null_count} of {table.num_rows} rollouts.")
    return column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype("int64")


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.rpartition("=")
        if not equals:
            raise ConfigError(f"--{option}: given {part!r}, allowed: name=value, comma-separated.")
        pairs[name] = value
    return pairs


def _floats(option: str, text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in _pairs(option, text).items()}
    except ValueError as error:
        raise ConfigError(f"--{option}: {error}.") from error


def _bounds(text: str) -> dict[str, tuple[float, float]]:
    bounds = {}
    for name, value in _pairs("ranges", text).items():
        try:
            low, high = map(float, value.split(":"))
        except ValueError as error:
            raise ConfigError(f"--ranges: given {name}={value}, allowed: name=low:high.") from error
        bounds[name] = (low, high)
    return bounds


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


def _print(
    rollouts: Rollouts,
    results: Mapping[str, AdvantageResult],
    observed: Mapping[str, tuple[float, float]],
    advice: Recommendation,
) -> None:
    from rich.console import Console

    console = Console()
    groups = len(rollouts.group_ids_N.unique())
    console.print(
        f"{len(rollouts.rewards_NK):,} rollouts in {groups:,} groups by {rollouts.prompt!r}; "
        f"rewards: {', '.join(rollouts.names)}",
        highlight=False,
    )
    console.print(_reward_table(rollouts.names, results["gdpo"].diagnostics))
    if len(rollouts.names) > 1:
        console.print(_pair_table(rollouts.names, results["gdpo"].diagnostics))
    console.print(_estimator_table(rollouts.names, results))
    for name, (low, high) in observed.items():
        console.print(f"{name}: no bounds given; {', '.join(SCALE_DEPENDENT)} used the observed [{low:g}, {high:g}]")
    console.print(f"[bold]Recommendation: {advice.estimator}[/bold]")
    for reason in advice.reasons:
        console.print(f"  because {reason}", highlight=False)
    for caution in advice.cautions:
        console.print(f"  note: {caution}", highlight=False)


def _reward_table(names: Sequence[str], metrics: Mapping[str, float]) -> Any:
    from rich.table import Table

    table = Table("reward", "mean", "missing", "constant groups", "saturation", title="Rewards")
    for name in names:
        mean = metrics.get(f"reward/{name}/mean")
        shares = (metrics.get(f"reward/{name}/{key}") for key in ("missing_share", "zero_variance_share", "saturation"))
        table.add_row(name, "–" if mean is None else f"{mean:.3f}", *map(_percent, shares))
    return table


def _pair_table(names: Sequence[str], metrics: Mapping[str, float]) -> Any:
    from rich.table import Table

    table = Table("rewards", "correlation", "conflicting rollouts", title="Pairs of rewards, within groups")
    for first, second in itertools.combinations(names, 2):
        correlation = metrics.get(f"advantage/correlation/{first}/{second}")
        conflict = metrics.get(f"advantage/conflict/{first}/{second}")
        told = "–" if correlation is None else f"{correlation:+.2f}"
        table.add_row(f"{first} – {second}", told, _percent(conflict))
    return table


def _estimator_table(names: Sequence[str], results: Mapping[str, AdvantageResult]) -> Any:
    from rich.table import Table

    table = Table(title="Estimators, and what each reward weighs in them")
    table.add_column("estimator", no_wrap=True)
    for heading in ("kept", "lost", "max", "≠ grpo", *names):
        table.add_column(heading, justify="right")
    baseline_N = results["grpo"].advantages_N
    for estimator, result in results.items():
        metrics = result.diagnostics
        flipped = (result.advantages_N * baseline_N < 0).double().mean()
        weights = (metrics.get(f"reward/{name}/effective_weight") for name in names)
        table.add_row(
            estimator,
            _whole(metrics.get("advantage/keep_ratio")),
            _percent(metrics["advantage/collapse"]),
            f"{metrics['advantage/abs_max']:.2f}",
            _percent(float(flipped)),
            *map(_whole, weights),
        )
    table.caption = (
        "lost: distinct groups no longer told apart; max: of |advantage|; ≠ grpo: rollouts with the other sign"
    )
    return table


def _whole(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _plot(file: Path, results: Mapping[str, AdvantageResult]) -> None:
    """Left: the distribution of each estimator's advantages. Right: what each reward weighs in it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, (spread, weights) = plt.subplots(1, 2, figsize=(12, 0.45 * len(results) + 2), layout="constrained")
    estimators = list(results)[::-1]
    quantiles = [np.quantile(results[name].advantages_N.numpy(), (0.05, 0.25, 0.5, 0.75, 0.95)) for name in estimators]
    boxes = [dict(zip(("whislo", "q1", "med", "q3", "whishi"), q, strict=True)) for q in quantiles]
    spread.bxp(boxes, showfliers=False, orientation="horizontal", label=None)
    spread.set_yticks(range(1, len(estimators) + 1), estimators)
    spread.set_title("advantages: 5, 25, 50, 75, 95 %")
    names = [key.split("/")[1] for key in results["gdpo"].diagnostics if key.endswith("/effective_weight")]
    left = np.zeros(len(estimators))
    for name in names:
        share = np.array([results[e].diagnostics.get(f"reward/{name}/effective_weight", 0.0) for e in estimators])
        weights.barh(estimators, share, left=left, label=name)
        left += share
    weights.set_title("share of each reward's contribution")
    weights.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
