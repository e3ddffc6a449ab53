"""The estimators: one small file each, registered under its file's name.

An estimator is a pure function of a ``RewardBatch`` and answers with an ``Estimate``: what each reward contributes to
each rollout's advantage, and what of the rest its paper prescribes.
"""

from collections.abc import Callable

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.result import Estimate
from mrpo.registry import Registry

Estimator = Callable[[RewardBatch], Estimate]
ESTIMATORS: Registry[Estimator] = Registry("estimator", __name__)
