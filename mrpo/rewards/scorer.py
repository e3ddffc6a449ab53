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
        self.rewards = rewards
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
        """One outcome a reward that looks at each rollout alone, by name. Never raises: what goes wrong is in the
        outcome.

        Args:
            prompt: the chat's messages, ``[{"role": ..., "content": ...}, ...]``.
            response: the decoded text.
            ground_truth: what the row gives to compare it with.
            extra: the row's ``extra_info``, and what is known of the rollout: ``data_source``, ``response_tokens``,
                ``truncated``, ``step``. Scheduled options are those of that step; without it, those of the end.
        """
        (outcomes,) = await self._ask("rollout", (prompt, response, ground_truth, extra), [extra])
        return outcomes

    async def score_group(
        self,
        prompt: Any,
        responses: Sequence[str],
        ground_truth: Any,
        extras: Sequence[dict[str, Any]],
        scored: Sequence[Mapping[str, Outcome]],
    ) -> list[dict[str, Outcome]]:
        """Of each of a prompt's responses one outcome a reward that looks at all of them together. Never raises.

        Args:
            prompt, ground_truth: as in ``score``.
            responses: all there are of the prompt.
            extras: one each, as in ``score``; functions find ``scored`` in them, as ``rewards``.
            scored: what ``score`` gave of each.
        """
        known = [{name: outcome.score for name, outcome in outcomes.items()} for outcomes in scored]
        extras = [{**extra, "rewards": scores} for extra, scores in zip(extras, known, strict=True)]
        return await self._ask("group", (prompt, list(responses), ground_truth, extras), extras)

    async def score_all(
        self, prompt: Any, responses: Sequence[str], ground_truth: Any, extras: Sequence[dict[str, Any]]
    ) -> list[dict[str, Outcome]]:
        """Of each of a prompt's responses one outcome a reward, whatever its scope: ``score``, then ``score_group``."""
        pairs = zip(responses, extras, strict=True)
        alone = await asyncio.gather(*(self.score(prompt, one, ground_truth, extra) for one, extra in pairs))
        together = await self.score_group(prompt, responses, ground_truth, extras, alone)
        return [{name: (a | b)[name] for name in self.rewards} for a, b in zip(alone, together, strict=True)]

    async def _ask(self, scope: str, arguments: Any, extras: Sequence[Mapping[str, Any]]) -> list[dict[str, Outcome]]:
        """The outcomes of the rewards of this scope, of each response that ``extras`` are about."""
        count = len(extras)
        known = extras[0] if extras else {}
        rewards = {name: reward for name, reward in self.rewards.items() if reward.scope == scope}
        applies = {name: _applies(reward, known.get("data_source")) for name, reward in rewards.items()}
        asked = {names: pool for names, pool in self.pools.items() if any(applies.get(name) for name in names)}
        try:
            payload = pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL) if asked else b""
        except Exception as error:
            return [dict.fromkeys(rewards, Outcome.raised(error)) for _ in range(count)]

        def submit(names: tuple[str, ...], pool: Pool) -> asyncio.Future[list[Outcome]]:
            reward = self.rewards[names[0]]
            if not reward.scheduled_options:
                return pool.submit(payload, count)
            options = reward.scheduled_at(known.get("step"))
            return pool.submit(pickle.dumps((*arguments, options), pickle.HIGHEST_PROTOCOL), count)

        answers = await asyncio.gather(*(submit(names, pool) for names, pool in asked.items()))
        found: list[dict[str, Outcome]] = [{} for _ in range(count)]
        for names, outcomes in zip(asked, answers, strict=True):
            each = outcomes if len(outcomes) == count * len(names) else outcomes * (count * len(names))
            for n, of_one in enumerate(found):
                of_one |= zip(names, each[n * len(names) : (n + 1) * len(names)], strict=True)
        # What the function told is kept with its first reward, even where that doesn't apply.
        nothing = Outcome()
        return [
            {
                name: of_one[name] if applies[name] else Outcome(details=of_one.get(name, nothing).details)
                for name in rewards
            }
            for of_one in found
        ]

    async def close(self) -> None:
        """End the processes and whatever they started."""
        await asyncio.gather(*(pool.close() for pool in self.pools.values()))

    async def __aenter__(self) -> Scorer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _applies(reward: RewardConfig, source: str | None) -> bool:
    """Whether the reward has to do with this data source; one that isn't known keeps none from scoring."""
    return reward.sources is None or source is None or source in reward.sources


def calls_of(rewards: Mapping[str, RewardConfig]) -> list[tuple[str, ...]]:
    """The names of the rewards that one call gives: those whose function, scope, options and processes are the same,
    whatever their keys.

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
    options = reward.options, reward.scheduled_options
    return reward.function, reward.scope, *options, reward.timeout, reward.processes, reward.memory


def _task(rewards: Sequence[RewardConfig], folder: Path) -> Task:
    reward = rewards[0]
    return Task(
        function=reward.function,
        folder=str(folder.resolve()),
        scope=reward.scope,
        options=reward.options,
        scheduled=[reward.scheduled_at(step) for step in (*reward.turning_points, None)],
        scores=[(one.key, one.range) for one in rewards],
        timeout=reward.timeout,
        memory=reward.memory,
        pythonpath=os.environ.get("PYTHONPATH"),
    )
