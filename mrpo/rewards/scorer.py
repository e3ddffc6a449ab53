"""Score one rollout by every named reward, each on its own: one that fails, hangs or dies costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.errors import ConfigError
from mrpo.rewards.connection import Task
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.pool import Pool

if TYPE_CHECKING:  # the config's check reads this package's grammar
    from mrpo.config.run import RewardConfig


class Scorer:
    """The rewards of a run, each in processes of its own, or those that one function gives in the same
    (``calls_of``). Used in one event loop, best as ``async with``.

    >>> from mrpo.config.run import RewardConfig
    >>> async def score(response):
    ...     async with Scorer({"correct": RewardConfig(function="exact_match")}, Path(".")) as scorer:
    ...         return await scorer.score([{"role": "user", "content": "2 + 2?"}], response, "4", {})
    >>> asyncio.run(score("4"))
    {'correct': Outcome(score=1.0, failure=None)}

    Args:
        rewards: what to score by, under the names that outcomes have.
        folder: what the rewards' ``FILE.py`` are relative to.
        python: the interpreter of the processes.
        logs: folder for what reward functions print, a file a function (``log_file``). Default: standard error.
    """

    def __init__(
        self,
        rewards: Mapping[str, RewardConfig],
        folder: Path,
        python: str = sys.executable,
        logs: Path | None = None,
    ):
        self.sources = {name: reward.sources for name, reward in rewards.items()}
        self.pools: dict[tuple[str, ...], Pool] = {}
        if logs is not None:
            with contextlib.suppress(OSError):
                logs.mkdir(parents=True, exist_ok=True)
        for names in calls_of(rewards):
            task, count = _task([rewards[name] for name in names], folder), rewards[names[0]].processes
            self.pools[names] = Pool(task, count, python, logs and log_file(logs, names))

    async def start(self) -> None:
        """Start the processes and load the functions. Without it that happens at the first score.

        Raises:
            ConfigError: functions can't be loaded: which, and the last lines of each error.
        """
        results = await asyncio.gather(*(pool.start() for pool in self.pools.values()), return_exceptions=True)
        errors = [(names[0], error) for names, error in zip(self.pools, results, strict=True) if error is not None]
        if errors:
            await self.close()
            raise ConfigError("\n".join(f"rewards.{name}: {error}" for name, error in errors))

    async def score(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> dict[str, Outcome]:
        """One outcome a reward, by name. Never raises: what goes wrong is in the outcome.

        Args:
            prompt: the chat's messages, ``[{"role": ..., "content": ...}, ...]``.
            response: the decoded text.
            ground_truth: what the row gives to compare it with.
            extra: the row's ``extra_info``, and what is known of the rollout: ``data_source``, ``response_tokens``,
                ``truncated``.
        """
        try:
            payload = pickle.dumps((prompt, response, ground_truth, extra), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return dict.fromkeys(self.sources, Outcome.raised(error))
        applies = {name: self._applies(name, extra.get("data_source")) for name in self.sources}
        asked = {names: pool for names, pool in self.pools.items() if any(applies[name] for name in names)}
        answers = await asyncio.gather(*(pool.submit(payload) for pool in asked.values()))
        by_name: dict[str, Outcome] = {}
        for names, outcomes in zip(asked, answers, strict=True):
            by_name |= zip(names, outcomes if len(outcomes) == len(names) else outcomes * len(names), strict=True)
        # What the function told is kept with its first reward, even where that doesn't apply.
        others = {name: Outcome(details=by_name[name].details if name in by_name else "") for name in self.sources}
        return {name: by_name[name] if applies[name] else others[name] for name in self.sources}

    def _applies(self, name: str, source: str | None) -> bool:
        """Whether the reward has to do with this data source; one that isn't known keeps none from scoring."""
        sources = self.sources[name]
        return sources is None or source is None or source in sources

    async def close(self) -> None:
        """End the processes and whatever they started."""
        await asyncio.gather(*(pool.close() for pool in self.pools.values()))

    async def __aenter__(self) -> Scorer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def calls_of(rewards: Mapping[str, RewardConfig]) -> list[tuple[str, ...]]:
    """The names of the rewards that one call gives: those whose function, options and processes are the same, whatever
    their keys.

    >>> from mrpo.config.run import RewardConfig
    >>> both = {key: RewardConfig(function="rewards.py:both", key=key) for key in ("correct", "short")}
    >>> calls_of(both | {"polite": RewardConfig(function="rewards.py:polite")})
    [('correct', 'short'), ('polite',)]
    """
    found: list[tuple[str, ...]] = []
    for name, reward in rewards.items():
        same = next((names for names in found if _call(rewards[names[0]]) == _call(reward)), None)
        if same is None:
            found.append((name,))
        else:
            found[found.index(same)] = (*same, name)
    return found


def log_file(logs: Path, names: Sequence[str]) -> Path:
    """What the function that gives the rewards ``names`` prints on this machine.

    Several processes may add to a file; several machines may not, on a file system that they share.
    """
    return logs / f"{'+'.join(names)[:100]}.{socket.gethostname()[:60]}.log"


def _call(reward: RewardConfig) -> tuple[Any, ...]:
    return reward.function, reward.options, reward.timeout, reward.processes, reward.memory


def _task(rewards: Sequence[RewardConfig], folder: Path) -> Task:
    reward = rewards[0]
    return Task(
        function=reward.function,
        folder=str(folder.resolve()),
        options=reward.options,
        scores=[(one.key, one.range) for one in rewards],
        timeout=reward.timeout,
        memory=reward.memory,
        pythonpath=os.environ.get("PYTHONPATH"),
    )
