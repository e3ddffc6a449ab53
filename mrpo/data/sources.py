"""Which rewards score which data sources: what the configuration says, held against the rows that there are."""

from __future__ import annotations

from collections import Counter

from mrpo.config.estimators import PapoConfig
from mrpo.config.run import RewardConfig, RunConfig
from mrpo.config.schedule import values
from mrpo.data.check import Report
from mrpo.errors import ConfigError, unknown_name


def source_counts(report: Report, kind: str = "data.") -> Counter[str]:
    """Rows of each data source in the files whose field begins with ``kind``."""
    found: Counter[str] = Counter()
    for file in report.files:
        if file.field.startswith(kind):
            found.update(file.sources)
    return found


def applicable(rewards: dict[str, RewardConfig], source: str) -> list[str]:
    """Names of the rewards that score rows of ``source``."""
    return [name for name, reward in rewards.items() if reward.sources is None or source in reward.sources]


def require_rewards(config: RunConfig, report: Report) -> None:
    """Every data source is scored by a reward, and in training by one that counts.

    Raises:
        ConfigError: a reward names a data source that no file has, a source is left without a reward, or the estimator
            needs a reward that isn't applicable to all sources.
    """
    rewards, everywhere, trained = config.rewards, source_counts(report), source_counts(report, "data.train_files")
    for name, reward in rewards.items():
        for source in reward.sources or ():
            if source not in everywhere:
                raise unknown_name(f"rewards.{name}.sources", source, everywhere, noun="data source")
    for source in everywhere:
        applied = {name: max(values(rewards[name].weight)) for name in applicable(rewards, source)}
        names = [name for name, weight in applied.items() if source not in trained or weight > 0]
        if not names:
            what = "reward" if source not in trained else "reward of a weight above 0"
            raise ConfigError(
                f"rewards: no {what} applies to the data source {source!r}. Allowed: one whose sources name it, or "
                "that has no sources."
            )
    partial = {name: [source for source in trained if source not in (reward.sources or trained)]
               for name, reward in rewards.items() if max(values(reward.weight)) > 0}  # fmt: skip
    if config.algorithm.preset == "verl" and (lacking := [name for name, lacks in partial.items() if lacks]):
        raise ConfigError(
            f"algorithm.preset: given verl, which reproduces code that needs every score, while {lacking[0]} doesn't "
            f"apply to {', '.join(partial[lacking[0]])}. Allowed: another preset, such as paper."
        )
    if isinstance(config.algorithm, PapoConfig):
        outcome = config.algorithm.outcome or next(iter(rewards))
        if lacks := partial.get(outcome):
            raise ConfigError(
                f"algorithm.outcome: given {outcome}, which doesn't apply to {', '.join(lacks)}; papo compares other "
                "rewards among rollouts that it finds correct, so none would teach there. Allowed: one of all sources."
            )
