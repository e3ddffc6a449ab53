"""Load an exported folder as anybody would: transformers alone, in a process that has never heard of mrpo.

``python plain_transformers.py MODEL PROMPTS.parquet TOKENS`` prints JSON: the greedy answer to each prompt by its text,
and how much the log-probabilities of the answers' tokens differ between float32 and bfloat16.
"""

from __future__ import annotations

import json
import sys

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder: str, prompts: str, tokens: int) -> None:
    torch.set_num_threads(1)  # more of them only wait for each other in a model this small
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rounded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    answers, difference = {}, 0.0
    for messages in pd.read_parquet(prompts)["prompt"]:
        chat = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        given = tokenizer(chat, return_tensors="pt", add_special_tokens=False).input_ids
        whole = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=tokens)
        prompt = tokenizer.decode(given[0], skip_special_tokens=True)
        answers[prompt] = tokenizer.decode(whole[0, given.shape[1] :], skip_special_tokens=True)
        of_both = [
            m(whole).logits[0, :-1].float().log_softmax(-1).gather(1, whole[0, 1:, None]) for m in (model, rounded)
        ]
        difference = max(difference, float((of_both[0] - of_both[1]).abs().max()))
    assert not {"mrpo", "verl", "ray"} & sys.modules.keys()
    print(json.dumps({"dtype": str(model.dtype), "answers": answers, "rounded": difference}))


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
