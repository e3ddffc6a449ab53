"""A step's rollout phase beside vLLM's own ``generate`` of the same batch, in turn.

``python tests/benchmarks/rollout_phase.py [--steps 12]`` trains the quickstart. After each step the run waits, in a
reward of its validation, until ``vllm.LLM`` has sampled the batch of the step before again, with the engine's settings
and each response's number of tokens; while the run goes on, that process is halted. Prints the seconds of both and
their ratio: what the phase costs beside the engine, in time. As the run's engine does, the other one samples a batch
after others have had the cores.
"""

from __future__ import annotations

import argparse
import os
import signal
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

SETTLE_SECONDS = 4.0
"""After which the run's engine, which is asked for nothing, no longer looks for work all the time."""
WARM_UP = 3
"""Steps that don't count: imports, caches and compilation end in them."""
ENGINE = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ENGINE |= {"TORCHDYNAMO_DISABLE": "1", "VLLM_DISABLE_COMPILE_CACHE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""What a run's engine gets on a CPU."""
REWARD = """
import time
from pathlib import Path

def short(prompt, response, ground_truth, extra):
    if extra["step"] is None:
        Path({waiting!r}).touch()
        while Path({hold!r}).exists():
            time.sleep(0.01)
    return float(extra["response_tokens"] <= 14)
"""
"""The quickstart's, which waits in a validation."""


def serve(run: Path) -> None:
    """For each step that is asked for, print the seconds of ``vllm.LLM.generate`` for its batch."""
    from vllm import LLM, SamplingParams, TokensPrompt

    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    names = ("dtype", "enforce_eager", "max_num_seqs", "max_num_batched_tokens")
    data, settings = config["data"], {name: config["rollout"][name] for name in names}
    longest = data["max_prompt_length"] + data["max_response_length"]
    engine = LLM(config["model"]["path"], max_model_len=longest, disable_log_stats=True, **settings)
    tokenizer: Any = cast(Any, engine.get_tokenizer())
    for step in sys.stdin:
        prompts, params = list[TokensPrompt](), list[SamplingParams]()
        for rollout in RunFolder(run).read_rollouts(int(step)):
            chat = [{"role": "user", "content": rollout["prompt"]}]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            prompts.append(TokensPrompt(prompt_token_ids=tokenizer(text, add_special_tokens=False).input_ids))
            length = {"max_tokens": rollout["tokens"], "ignore_eos": True}
            params.append(SamplingParams(temperature=1.0, seed=len(params), logprobs=0, detokenize=False, **length))
        engine.reset_prefix_cache()  # as new weights do
        began = time.perf_counter()
        engine.generate(prompts, params, use_tqdm=False)
        print("seconds", time.perf_counter() - began, flush=True)


class Engine:
    """The other process, halted while it isn't asked."""

    def __init__(self, run: Path):
        command = [sys.executable, __file__, "--engine", str(run)]
        piped: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, start_new_session=True, env={**ENGINE, **os.environ}, **piped)

    def seconds(self, step: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.signal(signal.SIGCONT)
        self.process.stdin.write(f"{step}\n")
        self.process.stdin.flush()
        said = next(line for line in self.process.stdout if line.startswith("seconds "))
        self.signal(signal.SIGSTOP)
        return float(said.split()[1])

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--engine", type=Path, help="only generate, for a run folder: what this starts itself as")
    given = parser.parse_args()
    if given.engine is not None:
        serve(given.engine)
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = train(Path(folder), given.steps)
        phases = [record["time/rollout"] for record in RunFolder(Path(folder) / "run").metrics()][:-1]
    measured = [(a, b, a / b) for a, b in zip(phases, alone, strict=True)][WARM_UP:]
    medians = map(statistics.median, zip(*measured, strict=True))
    lines = [(str(step), *line) for step, line in enumerate(measured, WARM_UP + 1)] + [("median", *medians)]
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, *values in lines]
    columns = ["step", "rollout phase, s", "vLLM's generate, s", "ratio"]
    Console(width=100).print(table("", columns, rows))


def train(folder: Path, steps: int) -> list[float]:
    """Run the steps; returns the seconds of ``generate`` for each but the last, whose rollouts aren't written yet."""
    run, hold, waiting = RunFolder(folder / "run"), folder / "hold", folder / "waiting"
    (folder / "reward.py").write_text(REWARD.format(waiting=str(waiting), hold=str(hold)))
    command = [str(Path(sys.executable).with_name("mrpo")), "train", "recipe=quickstart", f"run_dir={run.path}"]
    command += [f"trainer.total_training_steps={steps}", "trainer.test_freq=1", "trainer.val_before_train=false"]
    command += [f"rewards.short.function={folder}/reward.py:short", "rewards.short.timeout=600", "trainer.logger=[]"]
    engine, found = None, list[float]()
    hold.touch()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        for step in range(1, steps + 1):
            wait_until(process, lambda step=step: waiting.exists() and (step == 1 or step - 1 in run.rollout_steps()))
            engine = engine or Engine(run.path)
            if step > 1:
                time.sleep(SETTLE_SECONDS)
                found.append(engine.seconds(step - 1))
            hold.unlink()
            if step < steps:
                wait_until(process, lambda step=step: begun(run, step + 1))
                waiting.unlink()
                hold.touch()
        if process.wait():
            raise SystemExit(f"the run ended with {process.returncode}")
    finally:
        if engine is not None:
            engine.signal(signal.SIGKILL)
        process.terminate()
    return found


def begun(run: RunFolder, step: int) -> bool:
    return any((event["phase"], event["step"]) == ("rollout", step) for event in run.events())


def wait_until(process: subprocess.Popen[bytes], done: Any) -> None:
    while not done():
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode}")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
