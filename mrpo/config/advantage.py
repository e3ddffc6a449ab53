"""How rewards become advantages: an estimator with its options, and what each reward declares.

In a run the two come from different sections, ``algorithm`` and ``rewards``. A library call may give both in one
mapping: the estimator's options by their names, and what rewards declare as ``names``, ``weights``, ``ranges``,
``noise_variance`` and ``conditions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from mrpo.config.base import Bounds, StrictModel, config_errors
from mrpo.config.estimators import (
    ALGORITHM,
    ESTIMATOR_CONFIGS,
    Algorithm,
    EstimatorConfig,
    TokenModulation,
    default_algorithm,
)
from mrpo.errors import ConfigError, unknown_name

NotNegative = Annotated[float, Field(ge=0)]


class Condition(StrictModel):
    """``reward`` counts only where ``requires`` reached ``threshold`` (GDPO, arXiv 2601.05242, Eq. 8), or counts less
    where it didn't (``retain``; GEAR, arXiv 2606.03361)."""

    reward: str
    """The easy reward, whose score is conditioned."""
    requires: str
    """The harder reward that must be met first. A missing one counts as not met."""
    threshold: float | None
    """Score of ``requires``, in its own units, from which ``reward`` counts. None, with ``retain`` alone: it counts the
    more the higher ``requires`` is in its range."""
    retain: float | None = Field(default=None, ge=0, le=1)
    """Share of ``reward`` that counts where the condition isn't met (GEAR's lambda): 0 none, 1 all of it. What
    ``requires`` itself requires counts, too. None: none, and ``requires`` alone is judged."""
    otherwise: float = 0.0
    """The score of ``reward`` where the condition isn't met. A penalty needs its worst value here, not 0."""

    @model_validator(mode="after")
    def _is_hard_with_a_threshold(self) -> Condition:
        if self.threshold is None and self.retain is None:
            raise ConfigError("threshold: given none without retain, allowed: a number.")
        return self


class RewardSpec(StrictModel):
    """What one reward declares: a column of the reward matrix."""

    name: str
    """Everything else refers to the reward by this name."""
    weight: NotNegative = 1.0
    """Its weight in the combined advantage. 0 ignores it."""
    range: Bounds | None = None
    """Its bounds [low, high]. Estimators that compare the rewards' scales (``dvao``, ``saw``, ``sa_mrpo``) see it
    mapped onto [0, 1]; all others see it in its own units."""
    noise_variance: NotNegative = 0.0
    """Variance of its scoring noise, in its own units squared (``dvao`` takes it off before variance weighs)."""
    conditions: tuple[Condition, ...] = ()
    """When it counts, judged on the rewards as they came. Each names this reward; hard chains state all links."""


class AdvantageConfig(StrictModel):
    """Settings of ``mrpo.advantages.compute_advantages``."""

    algorithm: Algorithm = Field(default_factory=default_algorithm)
    """The estimator and its options."""
    rewards: tuple[RewardSpec, ...]
    """The rewards, in the order of the reward matrix's columns."""

    @property
    def estimator(self) -> str:
        return self.algorithm.estimator

    @property
    def token_modulation(self) -> TokenModulation | None:
        return self.algorithm.token_modulation

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(reward.name for reward in self.rewards)

    @property
    def weights(self) -> dict[str, float]:
        return {reward.name: reward.weight for reward in self.rewards}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Of the rewards that declare one."""
        return {reward.name: reward.range for reward in self.rewards if reward.range is not None}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(condition for reward in self.rewards for condition in reward.conditions)

    def weight(self, name: str) -> float:
        return self.weights[name]

    def with_options(self, **options: Any) -> AdvantageConfig:
        """The same with other values of the estimator's options, checked again."""
        with config_errors():
            changed = type(self.algorithm).model_validate(self._set_options() | options)
        return self.model_copy(update={"algorithm": changed})

    def for_estimator(self, name: str) -> AdvantageConfig:
        """The same for another estimator, which takes over the options that it has, too."""
        model = ESTIMATOR_CONFIGS[name]
        given = {option: value for option, value in self._set_options().items() if option in model.model_fields}
        return self.model_copy(update={"algorithm": model.model_validate(model.effective(given) | {"estimator": name})})

    def _set_options(self) -> dict[str, Any]:
        return {option: getattr(self.algorithm, option) for option in self.algorithm.model_fields_set}

    @model_validator(mode="after")
    def _rewards_agree(self) -> AdvantageConfig:
        names = self.names
        if not names:
            raise ConfigError("names: given none, allowed: one name per column of the reward matrix.")
        if len(set(names)) < len(names):
            raise ConfigError(f"names: given {list(names)}, but a name may appear only once.")
        if not any(reward.weight for reward in self.rewards):
            raise ConfigError(f"weights: given {self.weights}, allowed: at least one above 0.")
        for reward in self.rewards:
            for condition in reward.conditions:
                if condition.reward != reward.name:
                    raise unknown_name("conditions.reward (reward)", condition.reward, [reward.name])
                if condition.requires not in names:
                    raise unknown_name("conditions.requires (reward)", condition.requires, names)
                if condition.threshold is None and condition.requires not in self.ranges:
                    raise ConfigError(
                        f"ranges: nothing for reward {condition.requires!r}, which {reward.name!r} requires without a "
                        "threshold, so that its place in its range counts. Allowed: its bounds, or a threshold."
                    )
        _reject_cycle(self.conditions)
        self.algorithm.check_rewards(names)
        return self


def as_config(config: AdvantageConfig | Mapping[str, Any]) -> AdvantageConfig:
    """The typed settings.

    Args:
        config: settings, which are returned as they are; or a mapping that holds the estimator's options (``estimator``
            and those of its class in ``mrpo.config.estimators``) and ``names``, ``weights``, ``ranges``,
            ``noise_variance``, ``conditions`` of the rewards.

    Raises:
        ConfigError: a setting is wrong; the message names it.
    """
    if isinstance(config, AdvantageConfig):
        return config
    declared = {key: value for key, value in config.items() if key in DeclaredRewards.model_fields}
    options = {key: value for key, value in config.items() if key not in declared}
    known = DeclaredRewards.model_fields.keys() | ALGORITHM.options()
    for key in options:
        if key not in known | EstimatorConfig.RENAMED.keys():
            raise unknown_name("", key, known, noun="key")
    with config_errors():
        rewards = DeclaredRewards.model_validate(declared).specs()
        return AdvantageConfig(algorithm=ALGORITHM.parse(options), rewards=rewards)


class DeclaredRewards(StrictModel):
    """What rewards declare, as a library call gives it: by field, then by name."""

    names: tuple[str, ...] = ()
    weights: dict[str, NotNegative] = Field(default_factory=dict)
    """All names, or none: 1.0 each."""
    ranges: dict[str, Bounds] = Field(default_factory=dict)
    noise_variance: dict[str, NotNegative] = Field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()

    def specs(self) -> tuple[RewardSpec, ...]:
        return tuple(
            RewardSpec(
                name=name,
                weight=self.weights.get(name, 1.0),
                range=self.ranges.get(name),
                noise_variance=self.noise_variance.get(name, 0.0),
                conditions=tuple(condition for condition in self.conditions if condition.reward == name),
            )
            for name in self.names
        )

    @model_validator(mode="after")
    def _names_agree(self) -> DeclaredRewards:
        by_name: dict[str, Mapping[str, object]] = {
            "weights": self.weights,
            "ranges": self.ranges,
            "noise_variance": self.noise_variance,
            "conditions.reward": {condition.reward: condition for condition in self.conditions},
        }
        for field, values in by_name.items():
            for name in values:
                if name not in self.names:
                    raise unknown_name(f"{field} (reward)", name, self.names)
        without = [name for name in self.names if self.weights and name not in self.weights]
        if without:
            raise ConfigError(
                f"weights: given {self.weights}, but nothing for {', '.join(map(repr, without))}. "
                "Allowed: a weight for each of the names, or no weights at all (1.0 each)."
            )
        return self


def _reject_cycle(conditions: tuple[Condition, ...]) -> None:
    """A reward that, link by link, requires itself can never be earned by priority."""
    requires: dict[str, set[str]] = {}
    for condition in conditions:
        requires.setdefault(condition.reward, set()).add(condition.requires)

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            chain = " requires ".join((*path[path.index(name) :], name))
            raise ConfigError(f"conditions: a cycle: {chain}. Allowed: conditions that end at an unconditioned reward.")
        for required in sorted(requires.get(name, ())):
            visit(required, (*path, name))

    for name in requires:
        visit(name, ())
