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
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from mrpo.rewards.wire import RESPONSE, TRUNCATED, encode
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
    ) -> dict[str, Any]:
        """Score one response. ``reward_score`` is the weighted sum of the scores there are; verl shows it, our
        estimators don't use it."""
        known = {"data_source": data_source, "response_tokens": len(response_ids), "truncated": truncated}
        extra = {**(extra_info or {}), **known}
        if len(response_ids) > LONG:  # meanwhile the loop scores others
            response = await self.loop.run_in_executor(None, self.decode, response_ids)
        else:
            response = self.decode(response_ids)
        outcomes = await self.scorer.score(list(raw_prompt), response, reward_model["ground_truth"], extra)
        total = self._weighted_sum(outcomes)
        return {"reward_score": total, "reward_extra_info": encode(outcomes), RESPONSE: response}

    def _weighted_sum(self, outcomes: dict[str, Outcome]) -> float:
        return sum(self.weights[name] * o.score for name, o in outcomes.items() if o.score is not None)


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
