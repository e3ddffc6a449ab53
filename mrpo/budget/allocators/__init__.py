"""The allocators, one file each: ``(stats, low_N, **options) -> Curve``, what a prompt gains from one more rollout."""

from __future__ import annotations

from collections.abc import Callable

from mrpo.budget.fill import Curve
from mrpo.registry import Registry

ALLOCATORS: Registry[Callable[..., Curve]] = Registry("budget.method", "mrpo.budget.allocators")
