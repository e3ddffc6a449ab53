"""Serve an exported folder by vLLM alone: ``python plain_vllm.py MODEL PROMPTS.parquet TOKENS``.

Prints JSON: the greedy answer to each prompt by its text, and how much the log-probabilities of the answers' tokens
differ from those that transformers computes of the same folder.
"""

from __future__ import annotations

import json
import os
import sys

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder: str, prompts: str, tokens: int) -> None:
    from vllm import LLM, SamplingParams, TokensPrompt

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chats = [
        tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        for messages in pd.read_parquet(prompts)["prompt"]
    ]
    given = [tokenizer(chat, add_special_tokens=False).input_ids for chat in chats]
    engine = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=max(map(len, given)) + tokens)
    outputs = engine.generate(
        [TokensPrompt(prompt_token_ids=ids) for ids in given],
        SamplingParams(temperature=0.0, max_tokens=tokens, logprobs=0),
        use_tqdm=False,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers, difference = {}, 0.0
    for ids, output in zip(given, outputs, strict=True):
        answer = output.outputs[0]
        answers[tokenizer.decode(ids, skip_special_tokens=True)] = answer.text
        whole = torch.tensor([[*ids, *answer.token_ids]])
        own = model(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        for place, (token, entry) in enumerate(zip(answer.token_ids, answer.logprobs or [], strict=True)):
            assert entry is not None
            difference = max(difference, abs(float(own[place, token]) - entry[token].logprob))
    assert not {"mrpo", "verl"} & sys.modules.keys()
    print(json.dumps({"answers": answers, "log_probs": difference}))


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    with torch.no_grad():
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
