"""Score one rollout by every named reward, each on its own: one that fails or is slow costs the others nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrpo.config.run import RewardConfig
from mrpo.rewards.function import RewardFunction, load_function
from mrpo.rewards.outcome import Outcome


class Scorer:
    """The rewards of a run, loaded. ``score`` never raises: what goes wrong is in the outcome."""

    def __init__(self, rewards: Mapping[str, RewardConfig], folder: Path):
        self.timeouts = {name: reward.timeout for name, reward in rewards.items()}
        self.functions = {name: load_function(reward.function, folder) for name, reward in rewards.items()}

    async def score(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> dict[str, Outcome]:
        """One outcome a reward, by name."""
        outcomes = await asyncio.gather(
            *(self._score_one(name, (prompt, response, ground_truth, extra)) for name in self.functions)
        )
        return dict(zip(self.functions, outcomes, strict=True))

    async def _score_one(self, name: str, arguments: tuple[Any, str, Any, dict[str, Any]]) -> Outcome:
        try:
            return Outcome.of(await asyncio.wait_for(_call(self.functions[name], arguments), self.timeouts[name]))
        except TimeoutError:
            return Outcome(failure=f"no score within {self.timeouts[name]:g} s")
        except Exception as error:
            return Outcome(failure=f"{type(error).__name__}: {error}")


async def _call(function: RewardFunction, arguments: tuple[Any, str, Any, dict[str, Any]]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await asyncio.to_thread(function, *arguments)
