"""What rewards must be beside each other, beyond what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mrpo.config.budget import BudgetConfig
from mrpo.config.schedule import Schedule, at, values
from mrpo.errors import ConfigError

if TYPE_CHECKING:
    from mrpo.config.run import RewardConfig


def require_a_weight_in_every_step(rewards: Mapping[str, RewardConfig], last: int) -> None:
    """
    Raises:
        ConfigError: in a step from 1 to ``last`` all weights are 0.
    """
    # Between points that are next to each other no weight is 0 unless it is 0 at one of them.
    schedules = [reward.weight for reward in rewards.values() if isinstance(reward.weight, Schedule)]
    around = {step + near for schedule in schedules for step, _ in schedule.points for near in (-1, 0, 1)}
    for step in sorted({1, last} | {step for step in around if 1 <= step <= last}):
        if not any(at(reward.weight, step) for reward in rewards.values()):
            raise ConfigError(f"rewards: all weights are 0 in step {step}, allowed: one above 0 in every step.")


def require_known_in_rounds(rewards: Mapping[str, RewardConfig], budget: BudgetConfig) -> None:
    """
    Raises:
        ConfigError: rounds are decided by what isn't known before a prompt has all of its rollouts.
    """
    if budget.deciding is None:
        return
    field, given = budget.deciding
    of_groups = [name for name, reward in rewards.items() if reward.scope == "group"]
    weigh = [name for name in of_groups if max(values(rewards[name].weight)) > 0]
    if found := weigh if given == "total" else [name for name in of_groups if name == given]:
        allowed = ", ".join(name for name in rewards if name not in of_groups)
        includes = f", which includes {found[0]}" if given == "total" else ""
        raise ConfigError(
            f"{field}: given {given}{includes}; a reward of scope group is known when a prompt has all of its "
            f"rollouts, after its last round. Allowed: {allowed or 'a reward of scope rollout'}."
        )
