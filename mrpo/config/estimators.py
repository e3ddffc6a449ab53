"""The options of each advantage estimator: a class for each that has options of its own.

An estimator is a module of ``mrpo.advantages.estimators``, found by name. One without a class here has the options of
``GroupNormConfig``. The defaults are the vetted settings; every threshold is in its reward's own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from mrpo.config.base import FieldError, StrictModel
from mrpo.config.method_options import MethodSection
from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names

Preset = Literal["paper", "verl", "trl", "nemo", "swift"]


class TokenModulation(StrictModel):
    """DynaMO's token-level modulation (arXiv 2602.19208). The defaults are its released ``decay6_linearnorm``."""

    RENAMED: ClassVar[Mapping[str, str]] = {"clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high"}
    WITHOUT_EFFECT: ClassVar = dict.fromkeys(
        ("gamma", "tau", "clip_ratio_low", "clip_ratio_high"), ("lambda_min", (1.0,))
    )

    lambda_min: float = Field(default=0.6, gt=0, le=1)
    """Smallest factor, for the tokens whose update changes the entropy most. 1: no damping."""
    mu_max: float = Field(default=1.2, ge=1)
    """Largest factor, for the most confident tokens of good rollouts. 1: no compensation."""
    gamma: float = Field(default=50.0, gt=0)
    """Steepness of the damping."""
    tau: float = Field(default=0.99, ge=0, le=1)
    """Share of the batch's largest entropy change at which damping is half done."""
    clip_ratio_low: float = Field(default=0.2, ge=0, lt=1)
    """The policy loss's clip below: a worse token whose ratio fell further has no gradient left."""
    clip_ratio_high: float = Field(default=0.2, ge=0)
    """The policy loss's clip above: a better token whose ratio rose further has no gradient left."""


Rejection = Literal[
    "none",
    "token_k1", "token_k2", "token_k3",
    "seq_sum_k1", "seq_sum_k2", "seq_sum_k3",
    "seq_mean_k1", "seq_mean_k2", "seq_mean_k3",
    "seq_max_k2", "seq_max_k3",
]  # fmt: skip


class OffPolicy(StrictModel):
    """Correction for rollouts of other weights than those that learn from them: verl's ``rollout_correction``, of the
    ratio between the trainer's probability before the update and the engine's that sampled."""

    WITHOUT_EFFECT: ClassVar = {
        "rollout_is_threshold": ("rollout_is", ("none",)),
        "rollout_is_batch_normalize": ("rollout_is", ("none",)),
        "rollout_rs_threshold": ("rollout_rs", ("none",)),
    }

    rollout_is: Literal["none", "token", "sequence"] = "token"
    """Importance weights in the loss: none, each token's ratio, or the product of a response's."""
    rollout_is_threshold: float | str = 2.0
    """A larger weight is cut to this (truncated importance sampling); "LOW_HIGH": outside, a weight is 0."""
    rollout_is_batch_normalize: bool = False
    """Divide the weights by their mean over the batch."""
    rollout_rs: Rejection = "none"
    """Rejection: which estimate of the divergence takes a token or a response out of the loss."""
    rollout_rs_threshold: str | float | None = None
    """From where it rejects; "LOW_HIGH" for the estimates k1, whose ratios have two sides."""

    @model_validator(mode="after")
    def _rejection_has_a_threshold(self) -> OffPolicy:
        if self.rollout_rs != "none" and self.rollout_rs_threshold is None:
            raise ConfigError(
                f"rollout_rs_threshold: none given with rollout_rs={self.rollout_rs}, allowed: a number, or LOW_HIGH."
            )
        return self


class ShrinkageConfig(StrictModel):
    """Group statistics that lean on the prompt's earlier rollouts (after DBB, arXiv 2603.18444)."""

    WITHOUT_EFFECT: ClassVar = {"decay": ("predictor", ("cumulative",))}

    strength: float = Field(default=8.0, gt=0)
    """So many rollouts the history counts for, beside those of the group; at most as many as it holds."""
    predictor: Literal["cumulative", "decayed"] = "decayed"
    """How the history is read: all rollouts alike, or older ones less."""
    decay: float = Field(default=0.98, gt=0, le=1)
    """What an observation still weighs one training step later."""


class EstimatorConfig(StrictModel):
    """What every estimator takes: the steps around it."""

    RENAMED: ClassVar[Mapping[str, str]] = {"exclude_flat": "exclude_zero_variance"}
    scale_dependent: ClassVar[bool] = False
    """It compares the rewards' scales: it takes rewards with declared bounds mapped onto [0, 1], and refuses one that
    leaves [0, 1] without. All others take rewards in their own units."""
    weighs_by_batch: ClassVar[bool] = False
    """What a reward weighs in a group depends on the rest of the batch."""
    shrinks: ClassVar[bool] = True
    """Its group statistics can lean on the prompt's history."""

    estimator: str = "gdpo"
    """Name of the estimator: a module of ``mrpo.advantages.estimators``."""
    preset: Preset = "paper"
    """Whose numerical conventions (epsilons, groups of one, missing scores, batch norm) to reproduce: the paper's or a
    library's."""
    batch_norm: Literal["auto", "sequence", "token", "none"] = "auto"
    """Last normalization, over the batch: each rollout once, each token once, or none. ``auto``: as the preset and the
    estimator's paper have it."""
    exclude_zero_variance: bool = False
    """Leave the rollouts of groups in which no reward varies out of the batch norm's statistics, and give them exactly
    0."""
    clip: float | None = Field(default=None, gt=0)
    """Bound on the final advantage's absolute value. None: unbounded."""
    shrinkage: ShrinkageConfig | None = None
    """Let each group's mean and spread of a reward lean on what the prompt's earlier rollouts earned, for small groups.
    None: the group alone."""
    truncated: Literal["keep", "mask"] = "keep"
    """Rollouts that reached the length limit before their end: ``keep`` compares them as any other; ``mask`` leaves
    them out of the loss and of all statistics, as if they hadn't been sampled."""
    token_modulation: TokenModulation | None = None
    """Modulate advantages token by token in the policy loss. None: every token of a rollout has its advantage."""
    off_policy: OffPolicy | None = None
    """Correct for rollouts of older weights. Default: tokens' importance weights, truncated at 2, with
    ``rollout.ahead``; nothing without. An engine's log-probability of a token is of the weights that sampled it, so
    they are right for a response of several versions, too (``rollout.on_sync=continue``)."""

    def check_rewards(self, names: Sequence[str]) -> None:
        """Raise ConfigError if an option refers to a reward that isn't among ``names``."""

    @model_validator(mode="after")
    def _can_lean_on_history(self) -> EstimatorConfig:
        if self.shrinkage is not None and not self.shrinks:
            raise FieldError("shrinkage", f"given with {self.estimator}, which has no use for it. Allowed: none.")
        if self.shrinkage is not None and self.preset == "nemo":
            raise FieldError("shrinkage", "given with preset nemo, which leaves rollouts out. Allowed: another preset.")
        return self

    @model_validator(mode="after")
    def _has_the_estimators_options(self) -> EstimatorConfig:
        if type(self) is not ESTIMATOR_CONFIGS.get(self.estimator):
            raise ConfigError(f"estimator: given {self.estimator!r}, which has not the options {type(self).__name__}.")
        return self


class GroupNormConfig(EstimatorConfig):
    """An estimator that divides by a standard deviation within the prompt's group, and has no options of its own."""

    ddof: Literal[0, 1] = 1
    """Degrees of freedom taken off in a group's standard deviation: 1 sample (GRPO, GDPO), 0 population."""


class GrpoConfig(GroupNormConfig):
    WITHOUT_EFFECT: ClassVar = {"ddof": ("std", (False,))}

    estimator: Literal["grpo"] = "grpo"
    std: bool = True
    """Divide by the group's standard deviation. False is Dr.GRPO."""


class DvaoConfig(EstimatorConfig):
    """Its standard deviations are the population's, by its formula."""

    scale_dependent: ClassVar[bool] = True
    estimator: Literal["dvao"] = "dvao"


class Gd2poConfig(GroupNormConfig):
    WITHOUT_EFFECT: ClassVar = {"tau": ("mode", ("hard",))}

    estimator: Literal["gd2po"] = "gd2po"
    mode: Literal["hard", "snr"] = "snr"
    """Drop every rollout whose rewards disagree, or only those whose signal-to-noise ratio is below tau."""
    tau: float = Field(default=0.8, ge=0, le=1)
    """Mode snr: a conflicting rollout is dropped if |sum| / sum of absolutes of its advantages is below."""
    query_weight: Literal["pre_whiten", "loss", "none"] = "pre_whiten"
    """Where a prompt's kept share weighs in: in the advantage before batch norm (as released), in the loss
    (``AdvantageResult.loss_weights_N``), or nowhere."""
    dropped: Literal["leave", "stay"] = "leave"
    """Dropped rollouts leave the loss, its denominators included, or stay in it with advantage 0."""


class CorrGrpoConfig(GroupNormConfig):
    WITHOUT_EFFECT: ClassVar = {"ddof": ("form", ("grpo",))}

    weighs_by_batch: ClassVar[bool] = True
    shrinks: ClassVar[bool] = False
    estimator: Literal["corr_grpo"] = "corr_grpo"
    form: Literal["grpo", "gdpo"] = "grpo"
    """Work on the summed rewards or on the rewards' separate advantages."""
    corr_floor: float = Field(default=0.1, ge=0)
    """Smallest sum of correlations to divide by; opposite rewards bring it to 0. 0 is the released code."""


class SawConfig(GroupNormConfig):
    weighs_by_batch: ClassVar[bool] = True
    shrinks: ClassVar[bool] = False
    scale_dependent: ClassVar[bool] = True
    estimator: Literal["saw"] = "saw"
    form: Literal["grpo", "gdpo"] = "grpo"
    """Work on the summed rewards or on the rewards' separate advantages."""


class SaMrpoConfig(GroupNormConfig):
    weighs_by_batch: ClassVar[bool] = True
    scale_dependent: ClassVar[bool] = True
    estimator: Literal["sa_mrpo"] = "sa_mrpo"
    gamma: float = Field(default=0.5, ge=0)
    """How fast a reward fades as it saturates. 0 is GDPO."""


class PapoConfig(GroupNormConfig):
    estimator: Literal["papo"] = "papo"
    outcome: str | None = None
    """The reward that says whether a rollout is correct. None: the first one."""
    outcome_threshold: float = 1.0
    """Score of ``outcome``, in its own units, from which a rollout is correct."""

    def check_rewards(self, names: Sequence[str]) -> None:
        if self.outcome is not None and self.outcome not in names:
            raise unknown_name("algorithm.outcome (reward)", self.outcome, names)


class DaraConfig(GroupNormConfig):
    weighs_by_batch: ClassVar[bool] = True
    estimator: Literal["dara"] = "dara"
    form: Literal["asym", "sym"] = "asym"
    """Whether a rare reward's factor multiplies its positive advantages alone, or all of them."""
    w_max: float = Field(default=5.0, ge=1)
    """Largest factor. 1 is GDPO."""


class RvpoConfig(GroupNormConfig):
    estimator: Literal["rvpo"] = "rvpo"
    beta: float = Field(default=1.0, gt=0)
    """How much a rollout's weakest rewards decide: from the mean of its rewards' advantages (near 0) to their
    minimum."""


_WITH_OPTIONS: tuple[type[EstimatorConfig], ...] = (
    *(GrpoConfig, DvaoConfig, Gd2poConfig, CorrGrpoConfig, SawConfig),
    *(SaMrpoConfig, PapoConfig, DaraConfig, RvpoConfig),
)

ESTIMATOR_CONFIGS: dict[str, type[EstimatorConfig]] = {
    **dict.fromkeys(module_names("mrpo.advantages.estimators"), GroupNormConfig),
    **{model.model_fields["estimator"].default: model for model in _WITH_OPTIONS},
}
"""Each estimator's options, by its name."""

ALGORITHM = MethodSection("algorithm", "estimator", "gdpo", ESTIMATOR_CONFIGS)

Algorithm = Annotated[SerializeAsAny[EstimatorConfig], BeforeValidator(ALGORITHM.parse)]
"""Type of a field that holds an estimator's options: from a mapping, the class that ``estimator`` names."""


def default_algorithm() -> EstimatorConfig:
    return ESTIMATOR_CONFIGS[ALGORITHM.default](estimator=ALGORITHM.default)
