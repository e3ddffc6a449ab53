"""What a trainer rank makes of its own rows beside verl's forward and backward passes, so that no token of a batch has
to go through the controller: the responses' log-probabilities with their sums, and each token's advantage.

verl has the ranks leave log-probabilities of whole sequences, which the controller reads, cuts, writes back, and makes
metrics of. Shapes: R rows of a rank, S tokens of their responses, one row after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from verl.workers.utils.padding import response_from_nested

from mrpo.advantages import write_ragged
from mrpo.step.importance import Threshold, token_weights
from mrpo.step.policy_sums import policy_sums

OF_RESPONSES = "of_responses"
"""Key in a batch's ``extra_info``: whose log-probabilities the ranks are to leave of the responses alone: ``POLICY`` or
``REFERENCE``. Without it they leave what verl's own trainer reads."""
POLICY, REFERENCE = "policy", "reference"
SUMS = "policy_sums"
"""Field of a row: ``PolicySums``, in their order."""
THRESHOLD = "weight_threshold"
"""Key in ``extra_info``: the policy's ranks are to leave importance weights, too, cut as this says."""
WEIGHTS, WEIGHT_SUMS = "rollout_is_weights", "weight_sums"
"""Fields of a row: the weight of each token, and ``WeightSums``, in their order."""
ADVANTAGE = "row_advantage"
"""Field of a row: the advantage of each of its tokens, and 0 if it leaves the loss, else 1."""
CONTROLLERS = frozenset({"uid", "extra_fields", "raw_prompt", "num_turns", "rm_scores", SUMS, WEIGHT_SUMS})
"""Fields that no rank reads."""


def for_ranks(fields: Sequence[str]) -> list[str]:
    """Of a row's fields, those that ranks are sent."""
    return [name for name in fields if name not in CONTROLLERS]


def policy_rows(output: TensorDict, data: TensorDict, threshold: Threshold | None = None) -> TensorDict:
    """What is stored of the policy's forward pass, from verl's ``output`` of whole sequences and the rows' fields; with
    a ``threshold`` importance weights, where the engine's log-probabilities were kept."""
    mask: Any = data["response_mask"]
    old, entropy = (response_from_nested(output[name], mask) for name in ("log_probs", "entropy"))
    engine: Any = data.get("rollout_log_probs", None)
    lengths_R = mask.offsets().diff()
    sums = policy_sums(
        old.values(), None if engine is None else engine.values(), entropy.values(), mask.values().bool(), lengths_R
    )
    left = {"old_log_probs": old, "entropy": entropy, SUMS: torch.stack(sums, dim=1)}
    if threshold is not None and engine is not None:
        log_ratio_S = old.values() - engine.values()
        weights_S, of_weights = token_weights(log_ratio_S, mask.values().bool(), lengths_R, threshold)
        weights = torch.nested.nested_tensor_from_jagged(weights_S, mask.offsets())
        left |= {WEIGHTS: weights, WEIGHT_SUMS: torch.stack(of_weights, dim=1)}
    return TensorDict(left, batch_size=len(lengths_R))


def reference_rows(output: TensorDict, data: TensorDict) -> TensorDict:
    """The same of the reference policy."""
    ref = response_from_nested(output["log_probs"], data["response_mask"])
    return TensorDict({"ref_log_prob": ref}, batch_size=len(data))


def spread_advantages(data: TensorDict) -> None:
    """Give each token of the rows the advantage of its row (unless tokens have theirs already), and take the rows that
    leave the loss out of it."""
    mask: Any = data["response_mask"]
    advantages_R, keep_R = torch.stack(data.pop(ADVANTAGE).unbind()).unbind(dim=1)
    lengths_R = mask.offsets().diff()

    def ragged(
        values_S: torch.Tensor,
    ) -> torch.Tensor:  # without max_seqlen it would be padded to all S tokens
        longest = int(lengths_R.max())
        return torch.nested.nested_tensor_from_jagged(values_S, mask.offsets(), min_seqlen=0, max_seqlen=longest)

    if "advantages" not in data:
        data["advantages"] = data["returns"] = ragged(write_ragged(advantages_R, mask.values(), lengths_R))
    if not bool(keep_R.all()):
        kept_S = mask.values() * write_ragged(keep_R, None, lengths_R).to(mask.dtype)
        data["response_mask"] = data["loss_mask"] = ragged(kept_S)
