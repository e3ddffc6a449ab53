"""verl's reward manager interface over our Scorer: what runs in each reward worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from mrpo.config.controller import received
from mrpo.config.run import RewardConfig
from mrpo.config.schedule import at
from mrpo.record.busy import BusyTimes
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from mrpo.rewards.wire import MESSAGES, RESPONSE, TOOL_CALLS, TRUNCATED, decode, encode, with_more
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.turns import model_turns

LONG = 512
"""Tokens of a response that it takes longer to decode than to hand to a thread."""


class MultiRewardManager(RewardManagerBase):
    """Named in ``reward.reward_manager``; hands every component on by its name, None where there is no score."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **router: Any):
        super().__init__(config, tokenizer, compute_score)
        ours = received(config)
        self.decode = ResponseDecoder.of_model(tokenizer, ours.run.model.path)
        self.weights = {name: reward.weight for name, reward in ours.run.rewards.items()}
        rewards = with_models(ours.run.rewards, ours.reward_model_urls)
        logs = RunFolder(ours.run_dir).reward_logs
        require_loadable(rewards, ours.recipe_folder, logs)
        self.scorer = Scorer(rewards, ours.recipe_folder, logs=logs)
        self.busy = BusyTimes()

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """verl's way to ask: score the last sequence of ``data``."""
        row = data[-1:][0]
        ids, fields = row.batch["responses"], row.non_tensor_batch
        length = int(row.batch["attention_mask"][-ids.shape[-1] :].sum())
        what = {name: fields.get(name) for name in ("raw_prompt", "reward_model", "data_source", "extra_info")}
        told = fields["tool_extra_fields"]
        what |= {"truncated": told.get(TRUNCATED), "messages": told.get(MESSAGES), "tool_calls": told.get(TOOL_CALLS)}
        mask = row.batch["response_mask"][:length].tolist() if "response_mask" in row.batch else [1] * length
        turns = model_turns(ids[:length].tolist(), mask)
        tokens = sum(map(len, turns))
        what |= {"response_ids": turns[-1] if turns else [], "response_tokens": tokens, "turns": len(turns)}
        return await self.score(**what)

    async def score(self, step: int | None = None, **rollout: Any) -> dict[str, Any]:
        """Score one rollout, of the training step ``step``, by the response of its last turn. ``reward_score`` is the
        weighted sum of the scores there are; verl shows it, our estimators don't use it.

        Args:
            rollout: as ``agent_loop.SeededAgentLoopWorker`` tells of it.
        """
        ids: Sequence[int] = rollout["response_ids"]
        if len(ids) > LONG:  # meanwhile the loop scores others
            response = await self.loop.run_in_executor(None, self.decode, ids)
        else:
            response = self.decode(ids)
        given = list(rollout["raw_prompt"]), response, rollout["reward_model"]["ground_truth"]
        with self.busy.at_work():
            outcomes = await self.scorer.score(*given, extra_of(rollout, response, step))
        total = self._weighted_sum(outcomes, step)
        return {"reward_score": total, "reward_extra_info": encode(outcomes), RESPONSE: response}

    async def score_group(self, rollouts: Sequence[Mapping[str, Any]], step: int | None) -> list[dict[str, Any]]:
        """Score all rollouts of a prompt by the rewards of scope group. Of each, ``rollouts`` has what ``score`` took
        and what it gave; what it gave, with these rewards added, comes back."""
        first = rollouts[0]
        extras = [extra_of(one, one[RESPONSE], step) for one in rollouts]
        fields = [one["reward_extra_info"] for one in rollouts]
        scored = [
            {name: Outcome(score) for name, score in decode(one).items() if name in self.weights} for one in fields
        ]
        given = list(first["raw_prompt"]), [one[RESPONSE] for one in rollouts], first["reward_model"]["ground_truth"]
        with self.busy.at_work():
            found = await self.scorer.score_group(*given, extras, scored)
        return [
            {
                "reward_score": one["reward_score"] + self._weighted_sum(outcomes, step),
                "reward_extra_info": with_more(one["reward_extra_info"], outcomes),
            }
            for one, outcomes in zip(rollouts, found, strict=True)
        ]

    def _weighted_sum(self, outcomes: Mapping[str, Outcome], step: int | None) -> float:
        scores = {name: outcome.score for name, outcome in outcomes.items()}
        return sum(at(self.weights[name], step) * score for name, score in scores.items() if score is not None)


def extra_of(rollout: Mapping[str, Any], response: str, step: int | None) -> dict[str, Any]:
    """What rewards get as ``extra``: the row's ``extra_info``, and what is known of the rollout."""
    said = rollout[MESSAGES]
    turns = {
        "messages": [{"role": "assistant", "content": response}] if said is None else list(said),
        "turns": rollout["turns"],
        "tool_calls": list(rollout[TOOL_CALLS] or []),
    }
    known = {name: rollout[name] for name in ("data_source", "response_tokens", "truncated")}
    return {**turns, **(rollout["extra_info"] or {}), **known, "step": step}


def require_loadable(rewards: Mapping[str, RewardConfig], folder: Path, logs: Path | None = None) -> None:
    """Load every reward function once. Raises ConfigError with each one's error, before there is a rollout to score."""

    async def load() -> None:
        async with Scorer(rewards, folder, logs=logs):
            pass

    with ThreadPoolExecutor(1) as thread:  # an actor's constructor may run inside its event loop
        thread.submit(asyncio.run, load()).result()


def with_models(rewards: Mapping[str, RewardConfig], urls: Mapping[str, str]) -> dict[str, RewardConfig]:
    """The rewards, with ``url`` and ``model`` among the options of those whose model the run serves."""
    served = {name: {"url": url, "model": rewards[name].model.path} for name, url in urls.items()}  # type: ignore[union-attr]
    return {
        name: reward.model_copy(update={"options": {**reward.options, **served.get(name, {})}})
        for name, reward in rewards.items()
    }
