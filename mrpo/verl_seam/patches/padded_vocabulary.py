"""verl 0.9.1's trainer gives probability to tokens that don't exist, where a model has more logits than its tokenizer.

Models are padded to a multiple that hardware likes (Qwen's by hundreds of rows). verl's engine never samples such a
token, as it masks their logits (``monkey_patch_compute_logits``); its FSDP engine counts them in log-probabilities and
entropies. With 6 % of the mass there, the two differed by .045 in a token's probability (1e-7 by this patch), and every
update pushed a distribution that nobody had sampled from. Here the trainer and the reference model mask the same
logits. The model itself stays as it is, and so does its export: its surplus rows get no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor

MASKED = -1e4
"""In place of a logit: exp(-1e4) is 0 in any precision, and unlike -inf it makes ``p * logit``, of the entropy, 0."""


def apply() -> None:
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    original: Any = FSDPEngineWithLMHead.prepare_model_outputs
    if getattr(original, "is_masked", False):
        return

    def prepare_model_outputs(self: Any, output: Any, *given: Any, **named: Any) -> Any:
        mask_surplus(output, len(self.model_config.tokenizer), self.model_config.hf_config)
        return original(self, output, *given, **named)

    prepare_model_outputs.is_masked = True  # type: ignore[attr-defined]
    FSDPEngineWithLMHead.prepare_model_outputs = prepare_model_outputs  # type: ignore[method-assign]


def mask_surplus(output: Any, tokens: int, config: Any) -> None:
    """Mask the logits of ``output`` from number ``tokens`` on, in place and unseen by autograd: what is masked has the
    probability 0, and so its gradient is 0 as well.

    Args:
        output: of a language model, logits float[..., T, V].
        tokens: of the tokenizer.
        config: the model's, whose ``vocab_size`` is V; its text model's, where it has several.

    Raises:
        RuntimeError: fused kernels have computed probabilities already, and the model is padded.
    """
    if getattr(output, "logits", None) is None:
        if config.get_text_config().vocab_size > tokens:
            raise RuntimeError(
                f"the model has {config.get_text_config().vocab_size} logits for {tokens} tokens, and fused kernels "
                "count them all. Allowed: verl.actor_rollout_ref.model.use_fused_kernels=false"
            )
        return
    if isinstance(output.logits, DTensor):
        output.logits = output.logits.full_tensor()
    if output.logits.shape[-1] > tokens:
        with torch.no_grad():
            output.logits[..., tokens:] = MASKED
