"""The whole configuration of a run: what ``mrpo train`` resolves, checks and writes into the run folder.

Sections follow the data's way: model and data, rewards, algorithm, budget, rollout, actor, trainer. Field names are
verl's where verl has the same field. Whatever verl offers beyond them is set under ``verl`` by verl's own names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from mrpo.config.advantage import AdvantageConfig, DeclaredRewards, RewardSpec
from mrpo.config.allocators import Budget
from mrpo.config.base import Bounds, FieldError, StrictModel, config_errors
from mrpo.config.budget import BudgetConfig
from mrpo.config.checkpoint import CheckpointConfig, InterruptConfig, ResumeConfig, WatchdogConfig
from mrpo.config.data import DataConfig, ModelConfig
from mrpo.config.estimators import Algorithm, default_algorithm
from mrpo.config.observe import ObserveConfig
from mrpo.config.requirement import Requirement, SoftCondition, conditions
from mrpo.config.reward_checks import require_a_weight_in_every_step, require_known_in_rounds
from mrpo.config.reward_model import RewardModelConfig
from mrpo.config.rollout import RolloutConfig
from mrpo.config.schedule import ByStep, NotNegative, at
from mrpo.config.trackers import Tracker
from mrpo.errors import ConfigError, unknown_name


class RewardConfig(StrictModel):
    """One named reward."""

    ELSEWHERE: ClassVar = "Those of the function itself go into options."

    function: str
    """``FILE.py:NAME`` (relative to the recipe), ``package.module:NAME``, or a name of the library (``mrpo rewards
    list``); ``(prompt, response, ground_truth, extra)`` to a float, None (not applicable) or a dict. May be async."""
    scope: Literal["rollout", "group"] = "rollout"
    """What one call scores: a rollout, or all rollouts of a prompt at once, as ``(prompt, responses, ground_truth,
    extras)`` to a list of what the other kind gives."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""
    scheduled_options: dict[str, ByStep] = Field(default_factory=dict)
    """Further ones, whose values follow the training step: ``{cap: {0: 400, 100: 200}}``. A class is made anew for each
    value."""
    model: RewardModelConfig | None = None
    """A model to serve for it. The function gets its ``url`` and ``model`` as options; by default it is
    ``reward_model``, which reads the score off the model's classification head."""
    key: Annotated[str, BeforeValidator(lambda key: str(key) if type(key) is int else key)] = "score"
    """Which entry is this reward's score, where the function returns a dict, or a tuple (from 0)."""
    weight: NotNegative = 1.0
    """Its weight in the combined advantage: a number, or numbers by step, as ``{0: 0, 100: 1}``."""
    range: Bounds | None = None
    """Its bounds [low, high]. Estimators that compare rewards' scales (``dvao``, ``saw``, ``sa_mrpo``) need them and
    map it onto [0, 1]; ``grpo`` and the others take it as it is. A score outside is a failure."""
    requires: dict[str, Requirement] = Field(default_factory=dict)
    """It counts only in rollouts in which each reward named here reaches the number given here (or numbers by step,
    as for ``weight``), and is 0 in others.
    With ``{at_least: NUMBER, retain: SHARE}`` instead of a number it keeps that share there. One without a score
    reaches nothing."""
    sources: list[str] | None = Field(default=None, min_length=1)
    """The data sources (``data_source`` of a row) that it applies to; it isn't applicable to any other. Unset: all."""
    noise_variance: float | None = Field(default=None, ge=0)
    """Variance of its score over scorings of the same response, if it is noisy."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds that one score may take before it counts as failed."""
    processes: int = Field(default=1, ge=1)
    """Child processes that score it, in each reward worker."""
    memory: float | None = Field(default=None, gt=0)
    """GiB that one of those processes may allocate. Default: no limit."""

    def options_at(self, step: int | None) -> dict[str, Any]:
        """The function's keyword arguments in ``step``; None: at the ends of schedules."""
        return self.options | self.scheduled_at(step)

    def scheduled_at(self, step: int | None) -> dict[str, float]:
        """Those of them that follow the step."""
        return {name: schedule.at(step) for name, schedule in self.scheduled_options.items()}

    @property
    def turning_points(self) -> list[int]:
        """Steps between which the options change evenly, or not at all."""
        return sorted({step for schedule in self.scheduled_options.values() for step, _ in schedule.points})

    def spec(self, name: str, step: int | None) -> RewardSpec:
        """What the estimators need to know of it in ``step``; None: at the ends of schedules."""
        return RewardSpec(
            name=name,
            weight=at(self.weight, step),
            range=self.range,
            noise_variance=self.noise_variance or 0.0,
            conditions=conditions(name, self.requires, step),
        )

    @model_validator(mode="after")
    def _options_are_given_once(self) -> RewardConfig:
        for name in self.scheduled_options:
            if name in self.options:
                raise FieldError(f"scheduled_options.{name}", "is given under options, too. Allowed: one of them.")
        return self

    @model_validator(mode="before")
    @classmethod
    def _a_model_is_asked_for_its_head(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("model") is not None:
            return {"function": "reward_model", **given}
        return given


def _require_common_source(name: str, reward: RewardConfig, other: str, required: RewardConfig) -> None:
    if reward.sources and required.sources and not {*reward.sources} & {*required.sources}:
        raise ConfigError(
            f"rewards.{name}.requires: given {other}, which applies to {', '.join(required.sources)} only, while "
            f"{name} applies to {', '.join(reward.sources)}. Allowed: a reward with a data source in common."
        )


class ScoringConfig(StrictModel):
    """The reward workers: actors, spread over the nodes, that score rollouts."""

    RENAMED: ClassVar[Mapping[str, str]] = {"most_failures": "max_failure_rate"}

    workers: int = Field(default=2, ge=1)
    """How many."""
    max_failure_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of a step's rollouts in which one reward may fail; with more, the run stops rather than train on noise."""


class ActorConfig(StrictModel):
    """The policy update."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "warmup_steps": "lr_warmup_steps",
        "mini_batch_size": "ppo_mini_batch_size",
        "micro_batch_tokens": "ppo_max_token_len_per_gpu",
        "epochs": "ppo_epochs",
        "clip_low": "clip_ratio_low",
        "clip_high": "clip_ratio_high",
        "kl_coef": "kl_loss_coef",
        "loss_aggregation": "loss_agg_mode",
        "lr": "learning_rate",
    }
    OF_VERL: ClassVar = "actor_rollout_ref.actor"

    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's learning rate."""
    lr_warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Bound on the gradient's norm."""
    ppo_mini_batch_size: int | None = Field(default=None, ge=1)
    """Prompts per optimizer step; must divide ``data.train_batch_size``. Default: all of them, one optimizer step."""
    ppo_max_token_len_per_gpu: int = Field(default=16384, ge=1)
    """Tokens that a rank takes through the model at once, in training and for log-probabilities: memory, not
    mathematics. No less than one longest rollout."""
    ppo_epochs: int = Field(default=1, ge=1)
    """Passes over a step's rollouts."""
    clip_ratio_low: float = Field(default=0.2, gt=0, lt=1)
    """PPO clip below 1."""
    clip_ratio_high: float = Field(default=0.2, gt=0)
    """PPO clip above 1."""
    entropy_coeff: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus."""
    kl_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the KL loss against the initial policy; 0 loads no reference model."""
    loss_agg_mode: Literal["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"] = (
        "token-mean"
    )
    """How token losses become one number."""


class TrainerConfig(StrictModel):
    """The trainer ranks, the loop, and what it leaves."""

    OF_VERL: ClassVar = "trainer"

    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where models run. ``auto``: GPUs if this machine has any, else CPU."""
    nnodes: int = Field(default=1, ge=1)
    """Nodes that hold trainer ranks."""
    n_gpus_per_node: int = Field(default=2, ge=1)
    """Trainer (FSDP) ranks per node; on CPU these are processes."""
    total_training_steps: int = Field(default=100, ge=1)
    """Steps to train."""
    test_freq: int = Field(default=-1, ge=-1)
    """Steps between validations; -1: none."""
    val_before_train: bool = False
    """Validate the initial policy first."""
    export: Literal["none", "last", "best"] = "last"
    """Which checkpoint the run leaves as a Hugging Face folder, ``model`` in the run folder: none, that of the last
    step, or the best by ``checkpoint.best_metric``. ``mrpo export`` makes the same of any."""
    logger: list[Tracker] = Field(default_factory=list)
    """verl's tracking backends beside the run folder, say ["wandb", "tensorboard"]."""
    project_name: str = "mrpo"
    """Project in those backends."""
    experiment_name: str | None = None
    """Run's name in those backends. Default: the run folder's name."""
    determinism: Literal["default", "strict"] = "default"
    """strict: an engine's answer doesn't depend on what else it works on, so that a run can be repeated bit for bit.
    On a CPU the engines then take one sequence at a time; beside GPUs vLLM's batch invariance is switched on."""
    ray: Literal["own", "join"] = "own"
    """own: a Ray for this run alone, whatever else runs on the machine. join: the one at the address that the
    environment variable RAY_ADDRESS names, as ``mrpo launch`` starts it over several nodes."""
    fork_workers: bool = True
    """Fork worker processes from one that has done the imports, instead of importing in each (CPU only)."""


class RunConfig(StrictModel):
    """Everything that decides a run."""

    ELSEWHERE: ClassVar = "Those of verl go into verl."

    recipe: str
    """Name or folder of the recipe that this run started from."""
    run_dir: str | None = Field(default=None, min_length=1)
    """Folder that the run fills. Default: a new one under ``runs``."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of data order, initial sampling and everything random that is ours."""
    prepare: str | None = None
    """Script, relative to the recipe, that makes model and data once, and its arguments; run as ``python SCRIPT
    [ARGUMENTS] --out FOLDER --seed SEED``. The folder is known to the config as ``${prepared:}``."""
    model: ModelConfig
    data: DataConfig
    rewards: dict[str, RewardConfig] = Field(min_length=1)
    """The rewards by name."""
    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    """Where and how they are computed."""
    algorithm: Algorithm = Field(default_factory=default_algorithm)
    """The advantage estimator and its options."""
    budget: Budget = Field(default_factory=BudgetConfig)
    """How many rollouts each prompt gets."""
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    actor: ActorConfig = Field(default_factory=ActorConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """When the run is saved, and what is kept."""
    resume: ResumeConfig = Field(default_factory=ResumeConfig)
    """How the same command goes on from a checkpoint."""
    interrupt: InterruptConfig = Field(default_factory=InterruptConfig)
    """How the run ends early when it is asked to."""
    watchdog: WatchdogConfig = Field(default_factory=WatchdogConfig)
    """What happens when nothing moves."""
    observe: ObserveConfig = Field(default_factory=ObserveConfig)
    """How much is recorded."""
    verl: dict[str, Any] = Field(default_factory=dict)
    """Further settings of verl's own configuration, by verl's names; they win over what is derived from the above."""

    @property
    def advantage(self) -> AdvantageConfig:
        """The estimator's settings together with what the rewards declare, at the ends of schedules. By these weights
        validations are added up, so that those of different steps can be compared."""
        return self.advantage_at(None)

    def advantage_at(self, step: int | None) -> AdvantageConfig:
        """The same as in the training step ``step``."""
        with config_errors():
            rewards = tuple(reward.spec(name, step) for name, reward in self.rewards.items())
            return AdvantageConfig(algorithm=self.algorithm, rewards=rewards)

    @property
    def weights(self) -> dict[str, float]:
        """Of the rewards, at the ends of schedules."""
        return {name: at(reward.weight, None) for name, reward in self.rewards.items()}

    def as_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @property
    def ranks(self) -> int:
        return self.trainer.nnodes * self.trainer.n_gpus_per_node

    @property
    def rollouts_per_step(self) -> int:
        """Rollouts that a step trains on."""
        return self.data.train_batch_size * self.budget.trained_per_prompt

    @property
    def mini_batch_size(self) -> int:
        return self.actor.ppo_mini_batch_size or self.data.train_batch_size

    @field_validator("algorithm", mode="before")
    @classmethod
    def _rewards_declare_themselves(cls, given: Any) -> Any:
        for field in DeclaredRewards.model_fields:
            if isinstance(given, dict) and field in given:
                raise FieldError(field, "is declared with each reward, under rewards.<name>.")
        return given

    @field_validator("rewards", mode="before")
    @classmethod
    def _a_setting_of_no_reward_has_a_neighbour(cls, given: Any) -> Any:
        """A misspelt name on the command line is a reward of its own, which lacks a function."""
        settings = (
            {name: one for name, one in given.items() if isinstance(one, dict)} if isinstance(given, dict) else {}
        )
        whole = [name for name, one in settings.items() if one.keys() & {"function", "model"}]
        for name in (name for name in settings if name not in whole):
            if near := difflib.get_close_matches(str(name), whole, n=1):
                raise FieldError(f"{name}.function", f"is required and not set. Did you mean rewards.{near[0]}?")
        return given

    @model_validator(mode="after")
    def _rewards_agree(self) -> RunConfig:
        for name, reward in self.rewards.items():
            if not name.replace("_", "").isalnum():
                raise ConfigError(f"rewards: given the name {name!r}, allowed: letters, digits and underscores.")
            if name in ("total", "advantage"):
                what = "the weighted sum of all" if name == "total" else "what the estimator makes of all"
                raise ConfigError(f"rewards: given the name {name!r}, which is {what}. Allowed: another.")
            for other, of in reward.requires.items():
                if other not in self.rewards:
                    raise unknown_name(f"rewards.{name}.requires", other, self.rewards)
                _require_common_source(name, reward, other, self.rewards[other])
                if isinstance(of, SoftCondition) and of.at_least is None and self.rewards[other].range is None:
                    raise ConfigError(
                        f"rewards.{other}.range: none given, while {name} requires it without at_least, so that its "
                        "place in its range counts. Allowed: its bounds, or an at_least."
                    )
        known = [*self.rewards, "total"]
        if self.budget.filter_groups is not None and self.budget.filter_groups not in [*known, "advantage"]:
            raise unknown_name("budget.filter_groups", self.budget.filter_groups, [*known, "advantage"])
        if self.budget.filter_groups is not None and self.algorithm.shrinkage is not None:
            raise ConfigError(
                f"budget.filter_groups: given {self.budget.filter_groups} with algorithm.shrinkage, by which groups "
                "that don't vary have an advantage, too. Allowed: none."
            )
        field, deciding = self.budget.deciding or ("", "total")
        if deciding not in known:
            raise unknown_name(field, deciding, known)
        _ = self.advantage  # is checked as it is made
        require_a_weight_in_every_step(self.rewards, self.trainer.total_training_steps)
        require_known_in_rounds(self.rewards, self.budget)
        self.observe.require_known(self.rewards)
        return self

    @model_validator(mode="after")
    def _export_has_a_checkpoint(self) -> RunConfig:
        if self.trainer.export == "last" and not self.checkpoint.final:
            raise ConfigError("trainer.export: given last with checkpoint.final=false, allowed: none, or final=true.")
        if self.trainer.export == "best" and self.checkpoint.best_metric is None:
            raise ConfigError("trainer.export: given best without checkpoint.best_metric, allowed: none, last.")
        return self

    @model_validator(mode="after")
    def _engines_take_the_adapter(self) -> RunConfig:
        if self.model.lora and not self.model.lora.merge and self.rollout.placement == "separate":
            given = "model.lora.merge: given false with rollout.placement=separate, allowed: true, or colocated."
            raise ConfigError(f"{given} verl sends separate engines no adapter.")
        return self

    @model_validator(mode="after")
    def _can_be_repeated(self) -> RunConfig:
        if self.trainer.determinism == "strict" and self.rollout.on_sync == "continue":
            raise ConfigError(
                "trainer.determinism: given strict with rollout.on_sync=continue, allowed: default, or on_sync=finish. "
                "At which token of a rollout new weights come in depends on the moment."
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> RunConfig:
        prompts, mini, n = self.data.train_batch_size, self.mini_batch_size, self.budget.trained_per_prompt
        longest = self.data.max_prompt_length + self.data.max_response_length
        if self.actor.ppo_max_token_len_per_gpu < longest:
            raise ConfigError(
                f"actor.ppo_max_token_len_per_gpu: given {self.actor.ppo_max_token_len_per_gpu}, allowed: "
                f"{longest} or more (data.max_prompt_length + data.max_response_length)."
            )
        if prompts % mini:
            raise ConfigError(
                f"actor.ppo_mini_batch_size: given {mini}, allowed: a divisor of data.train_batch_size ({prompts})."
            )
        if mini * n % self.ranks:
            raise ConfigError(
                f"trainer.n_gpus_per_node: {self.ranks} ranks can't share the {mini * n} rollouts of a mini-batch "
                f"({mini} prompts x {n}) evenly; allowed: a number of ranks that divides it."
            )
        unequal = self.budget.method != "uniform" or self.budget.unit == "tokens"
        if unequal and self.rollout.placement == "separate" and prompts != mini:
            raise ConfigError(
                f"budget.method: given {self.budget.method} with mini-batches of {mini} prompts, allowed: uniform. "
                "With separate engines verl forms mini-batches of whole prompts, which must be of equal size: leave "
                "actor.ppo_mini_batch_size out, or set rollout.placement=colocated."
            )
        if self.rollout.placement == "colocated" and self.ranks % self.rollout.tensor_model_parallel_size:
            raise ConfigError(
                f"rollout.tensor_model_parallel_size: given {self.rollout.tensor_model_parallel_size}, allowed with "
                f"colocated placement: a divisor of the {self.ranks} ranks."
            )
        return self
