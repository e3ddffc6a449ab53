"""verl's reward manager interface over our Scorer: what runs in each reward worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
from mrpo.rewards.wire import encode
from mrpo.verl_seam.text import ResponseDecoder


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
        """Score the last sequence of ``data``. ``reward_score`` is the weighted sum of the scores there are; verl
        shows it, our estimators don't use it."""
        row = data[-1:][0]
        response_ids = row.batch["responses"]
        length = int(row.batch["attention_mask"][-response_ids.shape[-1] :].sum())
        fields = row.non_tensor_batch
        response = await self.loop.run_in_executor(None, self.decode, response_ids[:length].tolist())
        extra = {
            **(fields.get("extra_info") or {}),
            "data_source": fields.get("data_source"),
            "response_tokens": length,
        }
        outcomes = await self.scorer.score(
            list(fields["raw_prompt"]), response, fields["reward_model"]["ground_truth"], extra
        )
        return {"reward_score": self._weighted_sum(outcomes), "reward_extra_info": encode(outcomes)}

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
