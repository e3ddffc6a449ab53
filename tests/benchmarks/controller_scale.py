"""What the controller does between a step's last reward and its update: seconds and memory, by size of the batch.

    python tests/benchmarks/controller_scale.py                        # 1,024 x 512, 8,192 x 4,096, 65,536 x 4,096
    python tests/benchmarks/controller_scale.py --sizes 8192x4096 --estimator dvao --modulation

A synthetic batch of K = 4 rewards goes through the code of a run: rows of the fields that an agent loop stores and of
those that the ranks leave of their forward pass lie in a real TransferQueue (Ray, one storage process), and
``mrpo.step.step.assign_advantages`` reads them through ``VerlSeam``, makes advantages, writes them, and what a step
leaves goes to its background writer. Lengths are drawn as rollouts have
them, most short and a few at the limit: log-normal, median T/6, sigma 1, at most T. A token has 4
characters.

The controller is this process, on one core and with one thread; the storage has another core. A stage's peak is the
highest resident memory in it above what the process had before the first, and ``of batch`` its relation to the bytes
that the batch's rows hold in the storage when the stage begins. Each size is a process of its own, which has
done a batch of 64 rollouts before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GROUP, K, PROMPT, ROWS_A_TASK, WARM_UP = 8, 4, 200, 512, 64
SIZES = ("1024x512", "8192x4096", "65536x4096")
REWARDS = [f"reward_{k}" for k in range(K)]
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="rollouts x longest response")
    parser.add_argument("--estimator", default="gdpo")
    parser.add_argument("--modulation", action="store_true", help="with token modulation, which needs log-probs")
    parser.add_argument("--tools", type=float, default=0.0, help="share of rollouts of which half is a tool's text")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        rows, tokens = map(int, options.measure.split("x"))
        print(json.dumps(measure(rows, tokens, options)))
        return
    for size in options.sizes:
        command = [sys.executable, __file__, "--measure", size, *sys.argv[1:]]
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "RAY_raylet_start_wait_time_s": "300", "VERL_PLATFORM": "cpu"},
        )
        show(size, json.loads(done.stdout.splitlines()[-1]))


def show(size: str, told: dict[str, Any]) -> None:
    batch = told["batch_bytes"]
    held = f"{told['tokens']:,} response tokens, {batch / MIB:.0f} MiB in the storage"
    print(f"\n{size}, K = {K}, {told['settings']}: {held}")
    print("| stage | s | CPU s | peak MiB | of batch |\n|---|---|---|---|---|")
    for name, (seconds, cpu, peak) in told["stages"].items():
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {peak / MIB:.0f} | {peak / batch:.2f} |")
    sys.stdout.flush()


@dataclass
class Stages:
    """Seconds, CPU seconds and peak bytes by stage. Nested ones count in both."""

    of: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    before: int = 0
    highest: int = 0
    """Since the stage around the present one began."""

    def begin(self) -> None:
        self.before = resident("VmRSS")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        around = max(self.highest, resident("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
        self.highest = 0
        start, cpu = time.perf_counter(), time.process_time()
        yield
        spent = time.perf_counter() - start, time.process_time() - cpu
        peak = max(self.highest, resident("VmHWM"))
        self.highest = max(around, peak)
        old = self.of.get(name, (0.0, 0.0, 0))
        self.of[name] = old[0] + spent[0], old[1] + spent[1], max(old[2], peak - self.before)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any, **named: Any) -> Any:
            with self.timed(name):
                return call(*given, **named)

        measured.plain = call  # type: ignore[attr-defined]
        return measured


def resident(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) * 1024


# ---- the batch ----


def lengths(rows: int, longest: int) -> Any:
    import numpy as np

    drawn = np.random.default_rng(0).lognormal(np.log(longest / 6), 1.0, rows)
    return np.clip(np.ceil(drawn), 1, longest).astype(np.int64)


def uid_of(number: int) -> str:
    from mrpo.budget.ids import prompt_uid

    return prompt_uid("prompt", str(number // GROUP), "test", draw=number // GROUP)


def fill(first: int, lengths_N: list[int], tools: float) -> int:
    """Store the rows from ``first`` on, as an agent loop stores them and the ranks' log-probabilities follow. Returns
    their bytes."""
    import numpy as np
    import torch
    import transfer_queue as tq
    from tensordict import TensorDict
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    from mrpo.rewards.outcome import Outcome
    from mrpo.rewards.wire import RESPONSE, TRUNCATED, encode
    from mrpo.step.policy_sums import policy_sums
    from mrpo.verl_seam import columns
    from mrpo.verl_seam.agent_loop import SeededAgentLoopWorker
    from mrpo.verl_seam.rank_rows import SUMS

    tq.init()
    worker = object.__new__(SeededAgentLoopWorker)  # its engine and its rewards have answered
    worker.processor = None
    size, random = 0, np.random.default_rng(first)
    for start in range(0, len(lengths_N), GROUP):
        rows: list[Any] = []
        log_probs, entropies = [], []
        prompt_ids = random.integers(0, 256, PROMPT).tolist()
        for sample, length in enumerate(lengths_N[start : start + GROUP]):
            number = first + start + sample
            uid = uid_of(number)
            mask = [1] * length
            if random.random() < tools:
                mask[length // 4 : 3 * length // 4] = [0] * (3 * length // 4 - length // 4)
            scores = {name: Outcome(float(random.random() < 0.4)) for name in REWARDS}
            text = "".join(map(chr, random.integers(97, 122, 4 * length)))
            extra = {"reward_extra_info": encode(scores), RESPONSE: text, TRUNCATED: False}
            extra |= {"min_global_steps": 0, "max_global_steps": 0, "turn_scores": [], "tool_rewards": []}
            output = AgentLoopOutput(
                prompt_ids=prompt_ids,
                response_ids=random.integers(0, 256, length).tolist(),
                response_mask=mask,
                response_logprobs=random.random(length).tolist(),
                reward_score=1.0,
                num_turns=2,
                metrics=AgentLoopMetrics(),
                extra_fields=extra,
            )
            prompt = {
                "uid": uid,
                "raw_prompt": [{"role": "user", "content": "x" * 4 * PROMPT}],
                "reward_model": {"ground_truth": str(number // GROUP), "style": "rule"},
                "data_source": "test",
                "global_steps": 1,
            }
            rows += worker._rows(uid, number % GROUP, [output], prompt)
            log_probs.append(torch.rand(length).neg())
            entropies.append(torch.rand(length))
            size += sum(int(t.nbytes) for t in rows[-1].fields.values() if isinstance(t, torch.Tensor))
            size += len(text) + 8 * length
        keys, fields, tags = map(list, zip(*rows, strict=True))
        left: Any = fields
        asyncio.run(columns.put("train", keys, fields, tags))
        jagged = {
            name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
            for name, values in (("old_log_probs", log_probs), ("entropy", entropies))
        }
        engine, masks = (torch.cat([of[name] for of in left]) for name in ("rollout_log_probs", "response_mask"))
        sizes = torch.tensor([len(of) for of in log_probs])
        sums = policy_sums(torch.cat(log_probs), engine, torch.cat(entropies), masks.bool(), sizes)
        jagged[SUMS] = torch.stack(sums, dim=1)
        size += jagged[SUMS].nbytes
        tq.kv_batch_put(keys=keys, partition_id="train", fields=TensorDict(jagged, batch_size=len(keys)))
    return size


# ---- the controller ----


def measure(rows: int, tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import ray
    import torch
    import transfer_queue as tq
    from omegaconf import OmegaConf

    quiet: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=8, object_store_memory=128 * MIB, **quiet)
    try:
        tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
        lengths_N = lengths(rows + WARM_UP, tokens)
        task = ray.remote(num_cpus=3)(fill)
        starts = (*range(0, rows, ROWS_A_TASK), rows)
        parts = zip(starts, np.split(lengths_N, starts[1:]), strict=True)
        *stored, _ = ray.get([task.remote(start, part.tolist(), options.tools) for start, part in parts])
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        for some in (range(rows, rows + WARM_UP), range(rows)):
            stages = Stages()
            with tempfile.TemporaryDirectory() as folder:
                assign(Path(folder), some, options, stages)
        settings = (
            f"{options.estimator}, {'with' if options.modulation else 'no'} modulation, {options.tools:.0%} tools"
        )
        told = {"tokens": int(lengths_N[:rows].sum()), "batch_bytes": sum(stored), "settings": settings}
        return {**told, "stages": stages.of}
    finally:
        ray.shutdown()


def assign(folder: Path, rows: range, options: argparse.Namespace, stages: Stages) -> None:
    """Everything from the rewards to the update, and what the step leaves to the writer."""
    import transfer_queue as tq
    from omegaconf import OmegaConf

    from mrpo.config.controller import ControllerConfig
    from mrpo.config.load import validate
    from mrpo.record.alarms import Alarms
    from mrpo.record.run_folder import RunFolder
    from mrpo.record.writer import BackgroundWriter
    from mrpo.step import step as loop
    from mrpo.step.agreement import SteadyAgreement
    from mrpo.step.budget import RolloutBudget
    from mrpo.step.parts import Parts, Step
    from mrpo.step.position import Position
    from mrpo.verl_seam import rank_calls, token_rows
    from mrpo.verl_seam import rows as rows_module
    from mrpo.verl_seam.rows import PARTITION, VerlBatch
    from mrpo.verl_seam.seam import VerlSeam
    from mrpo.verl_seam.step_metrics import step_metrics

    algorithm: dict[str, Any] = {"estimator": options.estimator}
    if options.modulation:
        algorithm["token_modulation"] = {}
    config = validate(
        {
            "recipe": "scale",
            "model": {"path": "m"},
            "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": len(rows) // GROUP},
            "rewards": {name: {"function": "r.py:f"} for name in REWARDS},
            "budget": {"rollouts_per_prompt": GROUP},
            "algorithm": algorithm,
        }
    )
    seam = object.__new__(VerlSeam)  # without ranks and engines, whose work is over or to come
    seam.ours = ControllerConfig(run=config, recipe_folder=folder, run_dir=folder)
    correction = {"rollout_is": None, "rollout_rs": None, "bypass_mode": False}  # verl's default: metrics only
    seam.config, seam.timings = OmegaConf.create({"algorithm": {"rollout_correction": correction}}), {}
    seam.total_steps = 1
    seam.decoder = decoder()
    tracked: list[dict[str, Any]] = []
    seam.log = lambda metrics, step: tracked.append(dict(metrics))  # type: ignore[method-assign]
    seam.finish = lambda batches, metrics: metrics | step_metrics(batches, {"step": 1.0}, 1, 1)  # type: ignore
    parts: dict[tuple[Any, str], str] = {(seam, name): name for name in ("read", "texts", "write")}
    parts |= {(rows_module, name): f"read: {name}" for name in ("fetch_scored", "batch_rows")}
    parts |= {(token_rows, name): f"read: {name}" for name in ("fetch_masks", "correct_rollouts", "count_tokens")}
    parts |= {(loop, name): stage for name, stage in STAGES.items()}
    for (owner, name), stage in parts.items():
        plain = getattr(owner, name)
        setattr(owner, name, stages.around(stage, getattr(plain, "plain", plain)))
    budget = RolloutBudget(config.budget, config.advantage, len(rows) // GROUP)
    budget.observe = stages.around("history", budget.observe)  # type: ignore[method-assign]
    uids = [uid_of(number) for number in rows[::GROUP]]
    step = Step(1, source_of=dict.fromkeys(uids, "test"))
    budget.plan(step.plan, uids)
    beside: Any = (
        RunFolder(folder),
        lambda phase: None,
        lambda step: {},
        dict,
        BackgroundWriter(),
        SteadyAgreement(config),
        Alarms(config.observe.alarms),
    )
    run = Parts(config, seam, budget, Position(seam), *beside)
    wanted = set(uids)
    tags = {key: tag for key, tag in tq.kv_list(PARTITION)[PARTITION].items() if key.rsplit("_", 2)[0] in wanted}
    batch = VerlBatch(tq.KVBatchMeta(list(tags), list(tags.values()), PARTITION), {})
    Path("/proc/self/clear_refs").write_text("5")
    stages.begin()
    with stages.timed("to the update, in all"):
        with stages.timed("sums of the ranks read, and metrics"):
            rank_calls.leave_log_probs(RanksThatAreDone(), batch)
            actor = OmegaConf.create({"loss_agg_mode": "token-mean"})
            batch.metrics |= token_rows.policy_metrics(batch, actor)
        loop.assign_advantages(step, run, batch)
        loop.observe(step, run)
    step.batches.append(batch)
    with stages.timed("metrics of the step, and to the writer"):
        loop.record(step, run, batch.metrics)
    with stages.timed("written, in the background"):
        run.writer.settle()
    if not options.modulation:
        check(batch.handle, RunFolder(folder))


class RanksThatAreDone:
    """What they leave lies there."""

    def compute_log_prob(self, sent: Any) -> Any:
        return sent


def check(batch: Any, folder: Any) -> None:
    """A rank would give each token what the rollout log says; of some rows."""
    import torch
    import transfer_queue as tq

    from mrpo.verl_seam.rank_rows import ADVANTAGE, spread_advantages

    said = {(row["uid"], row["sample"]): row for row in folder.read_rollouts(1)}
    assert len(said) == len(batch.keys)
    keys = batch.keys[:: max(1, len(batch.keys) // 100)]
    data: Any = tq.kv_batch_get(keys, "train", [ADVANTAGE, "response_mask"])
    assert {"input_ids", "old_log_probs", ADVANTAGE} <= set(batch.fields)
    spread_advantages(data)
    for key, *fields in zip(
        keys, *(data[name].unbind() for name in ("advantages", "returns", "response_mask")), strict=True
    ):
        advantages_T, returns_T, mask_T = fields
        uid, sample, _ = key.rsplit("_", 2)
        row = said[uid, int(sample)]
        assert len(mask_T) == row["tokens"] == len(row["response"]) / 4
        torch.testing.assert_close(advantages_T, mask_T.float() * row["advantage"])
        assert torch.equal(advantages_T, returns_T)


STAGES = {
    "select_rollouts": "rewards matrix",
    "compute_advantages": "estimator and its metrics",
    "rollout_records": "rollout log",
    "reward_metrics": "reward metrics",
}


def decoder() -> Any:
    """Of a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from mrpo.verl_seam.text import ResponseDecoder

    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    return ResponseDecoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer))


if __name__ == "__main__":
    main()
