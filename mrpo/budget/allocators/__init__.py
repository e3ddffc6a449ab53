"""The allocators, one file each: ``(stats, low_G, config) -> MarginalGain``, what one more rollout is worth.

Each has its options in a config class of its own, ``mrpo.config.allocators``: there stand the defaults, the allowed
values and the smallest ``low``.
"""

from __future__ import annotations

from collections.abc import Callable

from mrpo.budget.greedy import MarginalGain
from mrpo.registry import Registry

ALLOCATORS: Registry[Callable[..., MarginalGain]] = Registry("budget.method", "mrpo.budget.allocators")
