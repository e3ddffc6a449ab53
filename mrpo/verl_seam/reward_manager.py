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
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from mrpo.rewards.wire import RESPONSE, TRUNCATED, decode, encode, with_more
from mrpo.verl_seam.text import ResponseDecoder

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

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """verl's way to ask: score the last sequence of ``data``."""
        row = data[-1:][0]
        ids, fields = row.batch["responses"], row.non_tensor_batch
        length = int(row.batch["attention_mask"][-ids.shape[-1] :].sum())
        what = {name: fields.get(name) for name in ("raw_prompt", "reward_model", "data_source", "extra_info")}
        truncated = fields["tool_extra_fields"].get(TRUNCATED)
        return await self.score(ids[:length].tolist(), truncated=truncated, **what)

    async def score(
        self,
        response_ids: Sequence[int],
        raw_prompt: Sequence[Mapping[str, Any]],
        reward_model: Mapping[str, Any],
        data_source: str,
        extra_info: Mapping[str, Any] | None,
        truncated: bool | None,
        step: int | None = None,
    ) -> dict[str, Any]:
        """Score one response, of the training step ``step``. ``reward_score`` is the weighted sum of the scores there
        are; verl shows it, our estimators don't use it."""
        extra = extra_of(extra_info, data_source, len(response_ids), truncated, step)
        if len(response_ids) > LONG:  # meanwhile the loop scores others
            response = await self.loop.run_in_executor(None, self.decode, response_ids)
        else:
            response = self.decode(response_ids)
        outcomes = await self.scorer.score(list(raw_prompt), response, reward_model["ground_truth"], extra)
        total = self._weighted_sum(outcomes, step)
        return {"reward_score": total, "reward_extra_info": encode(outcomes), RESPONSE: response}

    async def score_group(self, rollouts: Sequence[Mapping[str, Any]], step: int | None) -> list[dict[str, Any]]:
        """Score all rollouts of a prompt by the rewards of scope group. Of each, ``rollouts`` has what ``score`` took
        and what it gave; what it gave, with these rewards added, comes back."""
        first = rollouts[0]
        extras = [
            extra_of(one["extra_info"], one["data_source"], len(one["response_ids"]), one["truncated"], step)
            for one in rollouts
        ]
        fields = [one["reward_extra_info"] for one in rollouts]
        scored = [
            {name: Outcome(score) for name, score in decode(one).items() if name in self.weights} for one in fields
        ]
        given = list(first["raw_prompt"]), [one[RESPONSE] for one in rollouts], first["reward_model"]["ground_truth"]
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


def extra_of(
    info: Mapping[str, Any] | None, data_source: str, tokens: int, truncated: bool | None, step: int | None
) -> dict[str, Any]:
    """What rewards get as ``extra``: the row's ``extra_info``, and what is known of the rollout."""
    known = {"data_source": data_source, "response_tokens": tokens, "truncated": truncated, "step": step}
    return {**(info or {}), **known}


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
