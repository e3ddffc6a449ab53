"""A model in a GGUF file, as a folder that transformers, verl and vLLM read: de-quantized, in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

OF_THE_FILE = (
    "quantization_config",
    "_name_or_path",
    "_model_name_or_path",
    "architectures",
    "dtype",
    "unk_token_id",
    "transformers_version",
)
"""Settings of the loaded model that say how it was stored."""


def llama_from_gguf(gguf: Path, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh Llama with the file's weights, whose output embedding is tied to the input's.

    transformers refuses to save the model that it loads, because that one counts as quantized.

    Raises:
        RuntimeError: the file's weights or vocabulary aren't such a model's.
    """
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    settings: dict[str, Any] = {k: v for k, v in loaded.config.to_dict().items() if k not in OF_THE_FILE}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    weights = loaded.state_dict()
    weights.pop("lm_head.weight", None)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) != {"lm_head.weight"} or unexpected:  # it is tied to the embedding
        raise RuntimeError(f"{gguf.name}: weights are missing ({missing}) or unknown ({unexpected}).")
    if model.config.vocab_size != len(tokenizer):
        raise RuntimeError(f"{gguf.name}: {model.config.vocab_size} logits for {len(tokenizer)} tokens.")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.bfloat16()


def greedy_answer(folder: Path, question: str, max_tokens: int = 16) -> str:
    """What the model in ``folder`` answers to a question, the most probable token each time."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    inputs = tokenizer(prompt, return_tensors="pt")
    response_T = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)[0, inputs.input_ids.shape[1] :]
    return str(tokenizer.decode(response_T, skip_special_tokens=True))
