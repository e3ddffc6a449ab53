"""This package's training loop beside verl's own on the same model, data, rewards and placement.

``python tests/benchmarks/verl_trainer.py [--placement separate] [--steps 20] [--rounds 2]`` trains the quickstart in
turn by ``mrpo train`` and by verl 0.9.1's ``fit`` with verl's agent loops and reward workers, and prints the
median seconds of a step with all that follows it, of its parts, and the controller's memory. verl looks for finished
rollouts every .05 s here: its own interval, 2 s, is most of the quickstart's step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from mrpo.cli._table import table

POLL_SECONDS = 0.05
WARM_UP = 4
"""Steps that are not measured."""
PARTS = ("step", "gen", "old_log_prob", "adv", "update_actor", "update_weights")
OURS = dict(zip(PARTS, ("step", "rollout", "old_log_prob", "advantage", "update_actor", "update_weights"), strict=True))


class VerlController:
    """Takes the place of ``mrpo.driver.attempt.Controller``: verl's trainer, from its start to its end."""

    def run(self, config: dict[str, Any]) -> None:
        import transfer_queue as tq
        from omegaconf import OmegaConf
        from verl.trainer.ppo.v1 import AgentLoopManagerTQ

        from mrpo.config.controller import received
        from mrpo.record.phase import Phase
        from mrpo.record.run_folder import RunFolder
        from mrpo.verl_seam import node_roles
        from mrpo.verl_seam.plugin import require_loaded
        from mrpo.verl_seam.trainer import TRAINERS

        verl: Any = OmegaConf.create(config)
        require_loaded()
        node_roles.apply()
        node_roles.store_with_trainers(verl)
        verl.transfer_queue.enable = True
        OmegaConf.resolve(verl)
        RunFolder(received(verl).run_dir).event(Phase.START_CONTROLLER)
        tq.init(verl.transfer_queue)
        trainer: Any = TRAINERS[verl.trainer.v1.trainer_mode](verl)
        trainer.init()
        trainer.global_steps = 0
        trainer.replay_buffer.poll_interval = POLL_SECONDS
        given = {"teacher_client": None, "reward_loop_worker_handles": trainer.get_reward_handles()}
        trainer.fit(AgentLoopManagerTQ.create(config=verl, llm_client=trainer.get_llm_client(), **given))
        trainer.logger.finish()
        tq.close()


def measure(side: str, placement: str, steps: int) -> tuple[dict[str, float], float]:
    """Median seconds of a step, from one end to the next, and of its parts; the controller's largest memory, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        run, log = Path(folder, "run"), Path(folder, "verl.jsonl")
        program = [sys.executable, __file__, "--verl"] if side == "verl" else [sys.executable, "-m", "mrpo.cli.main"]
        settings = [f"run_dir={run}", f"trainer.total_training_steps={steps}", f"rollout.placement={placement}"]
        settings += ["trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.export=none"]
        settings += ["algorithm.estimator=grpo", "checkpoint.every=-1", "checkpoint.final=false"]
        settings += ["trainer.logger=[file]"]
        environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(log)}
        output = Path(folder, "output")
        with open(output, "wb") as out:
            started = psutil.Popen(
                [*program, "train", "recipe=quickstart", *settings], stdout=out, stderr=out, env=environment
            )
            memory, ends = 0.0, list[float]()
            while started.poll() is None:
                lines = log.read_text().splitlines() if log.exists() else []
                ends += [time.monotonic()] * (len(lines) - len(ends))
                memory = max(memory, _controller_memory(started))
                time.sleep(0.05)
        if len(ends) != steps:
            raise SystemExit(f"{side}: {len(ends)} of {steps} steps\n{output.read_text()[-3000:]}")
        records = [json.loads(line)["data"] for line in log.read_text().splitlines()][WARM_UP:]
    whole = [b - a for a, b in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    found = {"step to step": statistics.median(whole)}
    for part in PARTS:
        name = f"timing_s/{part}" if side == "verl" else f"time/{OURS[part]}"
        values = [record[name] for record in records if name in record]
        found[part] = statistics.median(values) if values else float("nan")
    return found, memory


def _controller_memory(root: psutil.Process) -> float:
    memory = 0.0
    try:
        tree = root.children(recursive=True)
    except psutil.Error:
        return memory
    for process in tree:
        try:
            if "Controller.run" in " ".join(process.cmdline()):
                memory = max(memory, process.memory_info().rss / 2**20)
        except psutil.Error:
            continue
    return memory


def train_by_verl(arguments: list[str]) -> None:
    """``mrpo train`` with verl's loop in the controller."""
    from mrpo.cli.main import main as mrpo
    from mrpo.driver import attempt

    attempt.Controller = VerlController  # type: ignore[assignment,misc]
    sys.argv = ["mrpo", *arguments]
    mrpo()


def main() -> None:
    if sys.argv[1:2] == ["--verl"]:
        return train_by_verl(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--placement", choices=("separate", "colocated"), default="separate")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    results: dict[str, list[tuple[dict[str, float], float]]] = {"verl": [], "mrpo": []}
    for _ in range(given.rounds):
        for side, found in results.items():
            found.append(measure(side, given.placement, given.steps))
    rows = []
    for name in [*results["verl"][0][0], "controller's memory, MiB"]:
        verl, ours = (
            statistics.median(times.get(name, memory) for times, memory in results[side]) for side in ("verl", "mrpo")
        )
        rows.append([name, f"{verl:.3f}", f"{ours:.3f}", f"{ours / verl:.3f}"])
    Console(width=120).print(table(f"{given.placement}, seconds", ["", "verl", "mrpo", "mrpo / verl"], rows))


if __name__ == "__main__":
    main()
