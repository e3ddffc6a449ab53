"""Responses of one model to a handful of prompts, by transformers alone: no Ray, no vLLM.

Prompts go through the model's chat template, as in a run. Sampling is the engines': no top-k or repetition penalty of
the model's own generation config, and none of the logits beyond the tokenizer's last token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mrpo.errors import ConfigError


class Response(NamedTuple):
    """A response, its length in tokens with the one that ends it, and whether it reached its limit before that."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Sampling:
    """How to sample."""

    n: int = 1
    """Responses to each prompt."""
    temperature: float = 0.0
    """0: the likeliest token each time."""
    max_tokens: int = 256
    """A response is truncated there."""
    seed: int = 0
    """Of the first response; each further one has the next."""


def respond(
    model: str,
    prompts: Sequence[str],
    sampling: Sampling,
    dtype: str = "float32",
    template: Mapping[str, Any] | None = None,
    each: Callable[[], None] = lambda: None,
) -> list[list[Response]]:
    """``sampling.n`` responses to each prompt. The same seed gives the same responses; other models get the same draws.

    Args:
        model: a Hugging Face folder, or a name on the hub.
        prompts: what a user says, each a conversation of its own.
        dtype: precision, ``float32`` or ``bfloat16``.
        template: further arguments of the chat template.
        each: called after each prompt.

    Raises:
        ConfigError: the model can't be loaded, or its tokenizer has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    from mrpo.verl_seam.text import ResponseDecoder, is_truncated  # what a run's rewards see

    disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, dtype), output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"target: {model} can't be loaded: {str(error).strip().splitlines()[0]}") from None
    policy, report = loaded
    if missing := sorted(map(str, report["missing_keys"])):  # transformers would leave them at random values
        raise ConfigError(f"target: the files of {model} lack {len(missing)} weights: {', '.join(missing[:5])}.")
    if tokenizer.chat_template is None:
        raise ConfigError(f"target: the tokenizer of {model} has no chat template, which prompts are put into.")
    policy = policy.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    ends = _ends(policy.generation_config.eos_token_id, tokenizer.eos_token_id)
    decode, sampled = ResponseDecoder(tokenizer, policy.generation_config.eos_token_id), sampling.temperature > 0
    how = GenerationConfig(
        do_sample=sampled,
        max_new_tokens=sampling.max_tokens,
        eos_token_id=ends or None,
        suppress_tokens=list(range(len(tokenizer), policy.config.get_text_config().vocab_size)) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends), 0),
        **({"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0} if sampled else {}),
    )
    found = []
    for number, prompt in enumerate(prompts):
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True, **(template or {})
        ).to(policy.device)
        start, responses = inputs["input_ids"].shape[1], []
        for sample in range(sampling.n):
            torch.manual_seed(sampling.seed + number * sampling.n + sample)
            with torch.inference_mode():
                ids = policy.generate(**inputs, generation_config=how)[0, start:].tolist()
            truncated = is_truncated(ids, [1] * len(ids), sampling.max_tokens, ends)
            responses.append(Response(decode(ids), len(ids), truncated))
        found.append(responses)
        each()
    return found


def _ends(*given: int | list[int] | None) -> list[int]:
    """The ids that end a response, by the model's generation config and by its tokenizer."""
    ids = [one for many in given for one in (many if isinstance(many, list) else [many])]
    return list(dict.fromkeys(one for one in ids if one is not None))
