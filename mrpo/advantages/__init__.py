"""From several rewards to one advantage: pure functions on tensors, without Ray or verl.

One call, ``compute_advantages``; its result, ``AdvantageResult``; ``estimators``, one small file each; around them the
steps every estimator shares (``conditioning``, ``ranges``, ``batch_norm``); ``tokens`` and ``token_modulation``, which
work on tokens; ``noise``, which measures a reward's scoring noise.
"""

from mrpo.advantages.compute import compute_advantages, compute_each
from mrpo.advantages.informative import informative_groups
from mrpo.advantages.noise import noise_variance_from_repeats
from mrpo.advantages.result import AdvantageResult
from mrpo.advantages.shrinkage import GroupHistory
from mrpo.advantages.token_modulation import modulate_tokens
from mrpo.advantages.tokens import token_counts, write_ragged, write_tokens
from mrpo.config.advantage import as_config

__all__ = [
    "AdvantageResult",
    "GroupHistory",
    "as_config",
    "compute_advantages",
    "compute_each",
    "informative_groups",
    "modulate_tokens",
    "noise_variance_from_repeats",
    "token_counts",
    "write_ragged",
    "write_tokens",
]
