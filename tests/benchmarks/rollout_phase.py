"""A step's rollout phase beside vLLM's own ``generate`` of the same batch.

``python tests/benchmarks/rollout_phase.py [--steps 12]`` trains the quickstart, and then gives its prompts and samples,
step by step, to ``vllm.LLM`` on the trained model, with the engine's settings and each response's number of tokens.
Prints the seconds of both and their ratio: what the phase costs beside the engine, in time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import yaml
from rich.console import Console

from mrpo.cli._table import table
from mrpo.record.run_folder import RunFolder

WARM_UP = 3
"""Steps that don't count: imports, caches and compilation end in them."""
ENGINE = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ENGINE |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_DISABLE_COMPILE_CACHE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""What a run's engine gets on a CPU."""


def generate_all(run: Path, steps: list[int]) -> list[float]:
    """Seconds of ``vllm.LLM.generate`` for the batch of each step."""
    from vllm import LLM, SamplingParams, TokensPrompt

    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    names = ("dtype", "enforce_eager", "max_num_seqs", "max_num_batched_tokens")
    data, settings = config["data"], {name: config["rollout"][name] for name in names}
    longest = data["max_prompt_length"] + data["max_response_length"]
    engine = LLM(str(run / "model"), max_model_len=longest, disable_log_stats=True, **settings)
    tokenizer: Any = cast(Any, engine.get_tokenizer())
    seconds = list[float]()
    for step in [steps[0], *steps]:
        engine.reset_prefix_cache()  # as new weights do
        prompts, params = list[TokensPrompt](), list[SamplingParams]()
        for line in (run / "rollouts" / f"{step}.jsonl").read_text().splitlines():
            rollout = json.loads(line)
            chat = [{"role": "user", "content": rollout["prompt"]}]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            prompts.append(TokensPrompt(prompt_token_ids=tokenizer(text, add_special_tokens=False).input_ids))
            length = {"max_tokens": rollout["tokens"], "ignore_eos": True}
            params.append(SamplingParams(temperature=1.0, seed=len(params), logprobs=0, detokenize=False, **length))
        began = time.perf_counter()
        engine.generate(prompts, params, use_tqdm=False)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--engine", type=Path, help="only generate, for a run folder: what this starts itself as")
    given = parser.parse_args()
    steps = list(range(WARM_UP + 1, given.steps + 1))
    if given.engine is not None:
        print(json.dumps(generate_all(given.engine, steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        mrpo = [str(Path(sys.executable).with_name("mrpo")), "train", "recipe=quickstart", f"run_dir={run}"]
        settings = [f"trainer.total_training_steps={given.steps}", "trainer.test_freq=-1"]
        settings += ["trainer.val_before_train=false", "trainer.logger=[]"]
        subprocess.run([*mrpo, *settings], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        phases = [record["time/rollout"] for record in RunFolder(run).metrics()[WARM_UP:]]
        myself = [sys.executable, __file__, "--steps", str(given.steps), "--engine", str(run)]
        answered = subprocess.run(myself, check=True, stdout=subprocess.PIPE, text=True, env={**ENGINE, **os.environ})
        alone = json.loads(answered.stdout.splitlines()[-1])
    rows = [
        [str(step), f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}"] for step, a, b in zip(steps, phases, alone, strict=True)
    ]
    medians = statistics.median(phases), statistics.median(alone)
    rows.append(["median", *(f"{seconds:.2f}" for seconds in medians), f"{medians[0] / medians[1]:.2f}"])
    Console(width=100).print(table("", ["step", "rollout phase, s", "vLLM's generate, s", "ratio"], rows))


if __name__ == "__main__":
    main()
