"""Score one rollout by every named reward, each on its own: one that fails, hangs or dies costs the others nothing."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.errors import ConfigError
from mrpo.rewards.connection import Task
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.pool import Pool

if TYPE_CHECKING:  # the config's check reads this package's grammar
    from mrpo.config.run import RewardConfig


class Scorer:
    """The rewards of a run, each in processes of its own. Used in one event loop, best as ``async with``.

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
    """

    def __init__(self, rewards: Mapping[str, RewardConfig], folder: Path, python: str = sys.executable):
        self.sources = {name: reward.sources for name, reward in rewards.items()}
        self.pools = {name: Pool(_task(reward, folder), reward.processes, python) for name, reward in rewards.items()}

    async def start(self) -> None:
        """Start the processes and load the functions. Without it that happens at the first score.

        Raises:
            ConfigError: functions can't be loaded: which, and the last lines of each error.
        """
        results = await asyncio.gather(*(pool.start() for pool in self.pools.values()), return_exceptions=True)
        errors = [(name, error) for name, error in zip(self.pools, results, strict=True) if error is not None]
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
            return dict.fromkeys(self.pools, Outcome.raised(error))
        asked = [name for name in self.pools if self._applies(name, extra.get("data_source"))]
        outcomes = await asyncio.gather(*(self.pools[name].submit(payload) for name in asked))
        return dict.fromkeys(self.pools, Outcome()) | dict(zip(asked, outcomes, strict=True))

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


def _task(reward: RewardConfig, folder: Path) -> Task:
    return Task(
        function=reward.function,
        folder=str(folder.resolve()),
        options=reward.options,
        key=reward.key,
        range=reward.range,
        timeout=reward.timeout,
        memory=reward.memory,
        pythonpath=os.environ.get("PYTHONPATH"),
    )
