"""How rewards become advantages: the estimator, its options and the steps around it.

One flat section for the whole family, so that a recipe switches estimators by changing ``estimator`` alone: an option
that the chosen estimator has no use for is not read. Every threshold is in its reward's own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names

BatchNorm = Literal["auto", "sequence", "token", "none"]
Preset = Literal["paper", "verl", "trl", "nemo"]


class Condition(StrictModel):
    """``reward`` counts only where ``requires`` reached ``threshold`` (GDPO, arXiv 2601.05242, Eq. 8)."""

    reward: str
    """The easy reward, whose score is conditioned."""
    requires: str
    """The harder reward that must be met first. A missing one counts as not met."""
    threshold: float
    """The least score of ``requires``, in its own units, at which ``reward`` counts."""
    otherwise: float = 0.0
    """The score of ``reward`` where the condition isn't met. A penalty needs its worst value here, not 0."""


class TokenModulation(StrictModel):
    """DynaMO's token-level modulation (arXiv 2602.19208). The defaults are its released ``decay6_linearnorm``."""

    lambda_min: float = Field(default=0.6, gt=0, le=1)
    """Least factor, for the tokens whose update changes the entropy most. 1: no damping."""
    mu_max: float = Field(default=1.2, ge=1)
    """Largest factor, for the most confident tokens of good rollouts. 1: no compensation."""
    gamma: float = Field(default=50.0, gt=0)
    """Steepness of the damping."""
    tau: float = Field(default=0.99, ge=0, le=1)
    """Share of the batch's largest entropy change at which damping is half done."""
    clip_low: float = Field(default=0.2, ge=0, lt=1)
    """The policy loss's clip below: a worse token whose ratio fell further has no gradient left."""
    clip_high: float = Field(default=0.2, ge=0)
    """The policy loss's clip above: a better token whose ratio rose further has no gradient left."""


class AdvantageConfig(StrictModel):
    """Settings of ``mrpo.advantages.compute_advantages``."""

    estimator: str = "gdpo"
    """Name of the estimator: a module of ``mrpo.advantages.estimators``."""
    names: tuple[str, ...] = ()
    """The rewards' names, in the order of the reward matrix's columns. Everything else refers to rewards by name."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each reward (>= 0): all names, or leave the field out for 1.0 each. Weight 0 ignores a reward."""
    conditions: tuple[Condition, ...] = ()
    """Priorities between rewards, judged on the rewards as they came. Chains a>b>c: state each link."""
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Known bounds [low, high] of a reward. A reward with bounds is mapped onto [0, 1] before the estimator sees it.
    ``dvao``, ``saw`` and ``sa_mrpo`` depend on scale: they refuse a reward that leaves [0, 1] without bounds here."""
    noise_variance: dict[str, float] = Field(default_factory=dict)
    """``dvao``: variance of a reward's scoring noise, in its own units squared, taken off before variance weighs."""
    preset: Preset = "paper"
    """Whose habits (epsilons, groups of one, missing scores, batch norm) to reproduce: the paper's or a library's."""
    ddof: Literal[0, 1] = 1
    """Degrees of freedom taken off in a group's standard deviation: 1 sample (GRPO, GDPO), 0 population (DVAO)."""
    std: bool = True
    """``grpo``: divide by the group's standard deviation. False is Dr.GRPO."""
    batch_norm: BatchNorm = "auto"
    """Last normalization, over the batch: each rollout once, each token once, or none. ``auto``: as the preset and the
    estimator's paper have it."""
    exclude_flat: bool = False
    """Leave the rollouts of groups without any signal out of the batch norm's statistics, and give them exactly 0."""
    clip: float | None = Field(default=None, gt=0)
    """Bound on the final advantage's absolute value. None: unbounded."""
    mode: Literal["hard", "snr"] = "snr"
    """``gd2po``: drop every rollout whose rewards disagree, or only those whose signal-to-noise ratio is below tau."""
    tau: float = Field(default=0.8, ge=0, le=1)
    """``gd2po``, mode snr: a conflicting rollout is dropped if |sum| / sum of absolutes of its advantages is below."""
    query_weight: Literal["pre_whiten", "loss", "none"] = "pre_whiten"
    """``gd2po``: where a prompt's kept share weighs in: in the advantage before batch norm (as released), in the loss
    (``AdvantageResult.loss_weights_N``), or nowhere."""
    dropped: Literal["leave", "stay"] = "leave"
    """``gd2po``: dropped rollouts leave the loss, its denominators included, or stay in it with advantage 0."""
    form: Literal["grpo", "gdpo"] = "grpo"
    """``corr_grpo`` and ``saw``: work on the summed rewards or on the rewards' separate advantages."""
    corr_floor: float = Field(default=0.1, ge=0)
    """``corr_grpo``: least sum of correlations to divide by; opposite rewards bring it to 0. 0 is the released code."""
    gamma: float = Field(default=0.5, ge=0)
    """``sa_mrpo``: how fast a reward fades as it saturates. 0 is GDPO."""
    outcome: str | None = None
    """``papo``: the reward that says whether a rollout is correct. None: the first of ``names``."""
    outcome_threshold: float = 1.0
    """``papo``: least score of ``outcome``, in its own units, at which a rollout is correct."""
    token_modulation: TokenModulation | None = None
    """Modulate advantages token by token in the policy loss. None: every token of a rollout has its advantage."""

    def for_rewards(self, names: tuple[str, ...]) -> AdvantageConfig:
        """The same settings for rewards named ``names``, checked again."""
        return AdvantageConfig(**{**self.model_dump(), "names": names})

    def weight(self, name: str) -> float:
        return self.weights.get(name, 1.0)

    @field_validator("estimator")
    @classmethod
    def _known_estimator(cls, estimator: str) -> str:
        known = module_names("mrpo.advantages.estimators")
        if estimator not in known:
            raise unknown_name("estimator", estimator, known)
        return estimator

    @model_validator(mode="after")
    def _values(self) -> AdvantageConfig:
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"names: given {list(self.names)}, but a name may appear only once.")
        for name, weight in self.weights.items():
            if weight < 0:
                raise ConfigError(
                    f"weights.{name}: given {weight}, allowed: 0 or more (turn the reward's sign instead)."
                )
        for name, (low, high) in self.ranges.items():
            if low >= high:
                raise ConfigError(f"ranges.{name}: given [{low}, {high}], allowed: [low, high] with low < high.")
        for name, variance in self.noise_variance.items():
            if variance < 0:
                raise ConfigError(f"noise_variance.{name}: given {variance}, allowed: 0 or more.")
        _reject_cycle(self.conditions)
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> AdvantageConfig:
        if not self.names:
            return self
        by_name: dict[str, Mapping[str, object]] = {
            "weights": self.weights,
            "ranges": self.ranges,
            "noise_variance": self.noise_variance,
        }
        for field, values in by_name.items():
            for name in values:
                self._require_name(field, name)
        for condition in self.conditions:
            self._require_name("conditions.reward", condition.reward)
            self._require_name("conditions.requires", condition.requires)
        if self.outcome is not None:
            self._require_name("outcome", self.outcome)
        without = [name for name in self.names if self.weights and name not in self.weights]
        if without:
            raise ConfigError(
                f"weights: given {self.weights}, but nothing for {', '.join(map(repr, without))}. "
                "Allowed: a weight for each of the names, or no weights at all (1.0 each)."
            )
        if self.weights and not any(self.weights.values()):
            raise ConfigError(f"weights: given {self.weights}, allowed: at least one above 0.")
        return self

    def _require_name(self, field: str, name: str) -> None:
        if name not in self.names:
            raise unknown_name(f"{field} (reward)", name, self.names)


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
