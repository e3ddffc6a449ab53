"""Which of verl's policy losses a run takes, read from where verl lies: nothing of it is imported."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from mrpo.errors import ConfigError, unknown_name

FIELD = "verl.actor_rollout_ref.actor.policy_loss"
BYPASS, DRO = "bypass_mode", "dro"


@cache
def policy_losses() -> list[str]:
    """The names that verl registers, but for the one that leaves the old log-probabilities out.

    >>> {"vanilla", "gspo", "cispo"} <= set(policy_losses())
    True
    """
    spec = importlib.util.find_spec("verl")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0], "trainer", "ppo", "core_algos.py")
    found = re.findall(r'^@register_policy_loss\("(\w+)"\)', file.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted({*found} - {BYPASS})


def require_policy_loss(verl: DictConfig) -> None:
    """Raises ConfigError if verl has no such loss, or if a setting that it needs isn't there: verl says so in the first
    update."""
    given = verl.actor_rollout_ref.actor.policy_loss
    if given.loss_mode == BYPASS:
        raise ConfigError(
            f"{FIELD}.loss_mode: given {BYPASS}, allowed: {', '.join(policy_losses())}. Every step compares engines' "
            "log-probabilities with the trainer's, which this loss does without."
        )
    if given.loss_mode not in policy_losses():
        raise unknown_name(f"{FIELD}.loss_mode", given.loss_mode, policy_losses(), noun="policy loss")
    if given.loss_mode == DRO and not (given.dro_beta or 0) > 0:
        raise ConfigError(f"{FIELD}.dro_beta: given {given.dro_beta}, allowed with loss_mode={DRO}: above 0.")
