"""What the untrained model earns: ``python recipes/smollm2/base_rates.py recipe=smollm2 [key=value …]``.

Samples as the run's engine would (temperature, top-p, longest response), scores with the run's rewards and prints, for
each reward, the mean, its spread over rollouts, and in how many groups its scores differ: only there it teaches.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mrpo.config.load import load_run_config
from mrpo.rewards.function import load_function

PROMPTS = 16


def main() -> None:
    config, recipe = load_run_config(sys.argv[1:])
    if not Path(config.model.path).exists():
        sys.exit(f"{config.model.path} isn't there yet: python {config.prepare} --out {Path(config.model.path).parent}")
    torch.manual_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(config.model.path, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(config.model.path, dtype=torch.float32, trust_remote_code=False)
    functions = {name: load_function(reward.function, recipe.folder) for name, reward in config.rewards.items()}
    rows: list[dict[str, Any]] = pd.read_parquet(config.data.train_files[0]).to_dict("records")
    per_prompt = config.budget.rollouts_per_prompt
    longest = max(len(chat(tokenizer, row)) for row in rows)
    scores_GnK = np.zeros((min(PROMPTS, len(rows)), per_prompt, len(functions)))
    lengths: list[int] = []
    for g, row in enumerate(rows[:PROMPTS]):
        prompt = torch.tensor([chat(tokenizer, row)])
        sampled = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=config.rollout.temperature,
            top_p=config.rollout.top_p,
            top_k=0,
            num_return_sequences=per_prompt,
            max_new_tokens=config.data.max_response_length,
        )
        for i, ids in enumerate(sampled[:, prompt.shape[1] :].tolist()):
            length = ids.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in ids else len(ids)
            text = str(tokenizer.decode(ids[:length], skip_special_tokens=True))
            extra = {**row["extra_info"], "data_source": row["data_source"], "response_tokens": length}
            truth = row["reward_model"]["ground_truth"]
            scores_GnK[g, i] = [function(row["prompt"], text, truth, extra) for function in functions.values()]
            lengths.append(length)
            if i == 0:
                print(f"{truth:>20}  {text!r}")
    print(f"\n{len(rows)} prompts, the longest {longest} tokens; responses of {np.mean(lengths):.1f} tokens")
    print(f"| reward | mean | std | mixed groups of {len(scores_GnK)} |\n|---|---|---|---|")
    for k, name in enumerate(functions):
        scores_Gn = scores_GnK[..., k]
        print(f"| {name} | {scores_Gn.mean():.2f} | {scores_Gn.std():.2f} | {(np.ptp(scores_Gn, axis=1) > 0).sum()} |")


def chat(tokenizer: Any, row: dict[str, Any]) -> list[int]:
    prompt = tokenizer.apply_chat_template(list(row["prompt"]), add_generation_prompt=True, tokenize=False)
    return list(tokenizer(prompt, add_special_tokens=False).input_ids)


if __name__ == "__main__":
    main()
