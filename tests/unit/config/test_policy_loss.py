"""A policy loss that verl hasn't, or that lacks a setting, is refused before a step is sampled for it."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mrpo.config.checked_run import CheckedRun
from mrpo.config.policy_loss import FIELD, policy_losses, require_policy_loss
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"loss_mode": "gsppo", "dro_beta": None}, "loss_mode: unknown policy loss 'gsppo'. Did you mean 'gspo'"),
        ({"loss_mode": "dro", "dro_beta": None}, "dro_beta: given None, allowed with loss_mode=dro: above 0"),
        ({"loss_mode": "bypass_mode", "dro_beta": None}, "loss_mode: given bypass_mode, allowed: .*cispo.*vanilla"),
    ],
)
def test_a_loss_that_could_not_be_computed_is_refused(loss: dict[str, object], message: str) -> None:
    verl = OmegaConf.create({"actor_rollout_ref": {"actor": {"policy_loss": loss}}})
    with pytest.raises(ConfigError, match=message):
        require_policy_loss(verl)


def test_verls_own_are_known() -> None:
    assert {*policy_losses()} >= {"vanilla", "gspo", "cispo", "sapo", "gpg", "clip_cov", "kl_cov", "geo_mean"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{FIELD}.loss_mode=nope", "unknown policy loss 'nope'"),
        ("verl.actor_rollout_ref.actor.strategy=megatron", 'given "megatron", allowed: "fsdp2". Weights, checkpoints'),
        ("verl.actor_rollout_ref.rollout.name=sglang", 'given "sglang", allowed: "vllm"'),
        ("verl.critic.enable=true", "None of the estimators has a critic"),
    ],
)
def test_a_run_is_refused_by_what_it_cannot_take_of_verl(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CheckedRun.load(["recipe=quickstart", override])
