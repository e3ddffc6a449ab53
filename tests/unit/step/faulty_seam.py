"""A seam without a stack: prompts, rollouts and weights in memory, for the order of a step and what faults do to it.

It injects faults: groups that fail, engines that disagree, rewards that fail, and whatever a test does in a wait.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mrpo.budget.pilot import pilot_variance
from mrpo.checkpoint.plain import load_state, save_state
from mrpo.record.busy import Interval
from mrpo.record.token_file import RolloutTokens
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import decode, encode
from mrpo.step.checkpointing import Ranks
from mrpo.step.outcome import INFORMATIVE_SHARE
from mrpo.step.rollouts import BatchRow, Rollouts
from mrpo.step.seam import Commit, Metrics, PromptContent, Prompts, RolloutText, ValidationRow


@dataclass
class RowsInMemory:
    handle: list[BatchRow]
    metrics: Metrics = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.handle)


class RanksInMemory:
    """The weights are a number: how often they were updated."""

    def __init__(self) -> None:
        self.weights = 0.0

    def save_state(self, folder: str, asynchronous: bool) -> list[float]:
        Path(folder).mkdir(parents=True)
        Path(folder, "weights.json").write_text(json.dumps(self.weights))
        return [0.0]

    def wait_saved(self) -> list[None]:
        return [None]


class FaultySeam:
    """Rollouts of a prompt are right as often as its number and the weights say: the same in every run."""

    def __init__(self, total_steps: int = 3, mini_batches: int = 1):
        self.total_steps, self.mini_batches = total_steps, mini_batches
        self.weights = RanksInMemory()
        self.ranks: Ranks = self.weights
        self.engine_weights = -1.0
        self.while_waiting: Callable[[int], None] = lambda unfinished: None
        self.step = -1
        self.fetched = 0
        self.queue: dict[int, dict[str, tuple[PromptContent, int, int]]] = defaultdict(dict)
        """What is under way, by step and uid: the prompt, its rollouts, and the weights that began them."""
        self.planned: dict[int, dict[str, int]] = defaultdict(dict)
        """Rollouts of each prompt that was submitted, by step and uid."""
        self.pilots: dict[int, list[dict[str, float]]] = defaultdict(list)
        """By step, the variances of the pilots of each division, by uid."""
        self.committed: set[str] = set()
        """Prompts over which the rest of a step's rollouts was divided."""
        self.sampled_by: dict[int, list[float]] = {}
        """The engines' weights as each step's prompts were submitted."""
        self.calls: list[str] = []
        self.logged: dict[int, Metrics] = {}
        self.written: list[torch.Tensor] = []
        self.sources = ["test"]
        """The prompts' data sources in turn."""
        # ---- faults ----
        self.failing_groups = 0
        """Prompt groups that fail before any succeeds."""
        self.failing_after_pilots = 0
        """Prompt groups that fail when the rest of them is sampled."""
        self.failing_ahead = 0
        """Prompt groups that fail while the ranks are at work on another step."""
        self.slow: Callable[[int], bool] = lambda step: False
        """Steps whose rollouts have no end before their turn."""
        self.correlation = 1.0
        """Of the engines' probabilities with the ranks'."""
        self.difference = 0.0
        """Of the engines' probabilities from the ranks', which correlate."""
        self.truncated: float | None = None
        """Share of each prompt's responses that reach their limit."""
        self.constant = False
        """All rollouts of a prompt earn the same."""
        self.informative_share: float | None = None
        """Of the groups that were filtered out, how many would have taught."""
        self.failing_reward: str | None = None
        self.in_wait: Callable[[int], None] = lambda step: None
        """Called in each wait of a step."""
        self.in_update: Callable[[], None] = lambda: None
        """Called in each update of the ranks."""
        self.step_seconds: float | None = None
        """How long each step takes."""
        self.tended = threading.Event()
        """In this step, the rollouts of those ahead were looked after."""
        self.scoring: list[list[Interval]] = []
        """When each reward worker was at work, in seconds before a step's end."""
        self.in_validation: Callable[[int], None] = lambda step: None

    def load(self, folder: Path | None, step: int) -> bool:
        self.calls.append("load")
        if folder is not None:
            self.weights.weights = json.loads((folder / "weights.json").read_text())
        return False

    def load_model(self, model: str) -> None:
        self.calls.append("load_model")
        self.weights.weights = json.loads((Path(model) / "weights.json").read_text())

    def pause(self) -> None:
        self.calls.append("pause")

    def serve(self, step: int) -> None:
        self.engine_weights = self.weights.weights

    def loader_state(self) -> dict[str, Any]:
        return {"fetched": self.fetched}

    def load_loader_state(self, state: dict[str, Any]) -> None:
        self.fetched = state["fetched"]

    @contextmanager
    def timed_step(self, step: int, timings: dict[str, float]) -> Iterator[None]:
        self.step, self.calls = step, []
        self.tended.clear()
        yield
        timings |= {} if self.step_seconds is None else {"step": self.step_seconds}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        yield

    def end(self) -> None:
        self.calls.append("end")

    def next_prompts(self, count: int) -> Prompts:
        self.calls.append("next_prompts")
        numbers = [(self.fetched + i) % 16 for i in range(count)]
        self.fetched += count
        return Prompts([self.content(n) for n in numbers], None)

    def select(self, prompts: Prompts, chosen: Sequence[int]) -> Prompts:
        return Prompts([prompts.contents_G[i] for i in chosen], None)

    def content(self, number: int) -> PromptContent:
        source = self.sources[number % len(self.sources)]
        return PromptContent([{"role": "user", "content": str(number)}], number, source)

    def unfinished_prompts(self) -> set[str]:
        return {uid for queue in self.queue.values() for uid in queue}

    def submit(self, prompts: Prompts, uids_G: Sequence[str], n_G: Sequence[int], step: int) -> None:
        self.calls.append("submit")
        self.sampled_by.setdefault(step, []).append(self.engine_weights)
        for uid, content, n in zip(uids_G, prompts.contents_G, n_G, strict=True):
            self.queue[step][uid] = content, n, int(self.engine_weights)
            self.planned[step][uid] = n

    def wait(self, step: int, prompts: int, refill: Callable[[int], None], commit: Commit | None) -> RowsInMemory:
        self.calls.append("wait")
        queue = self.queue[step]
        self.while_waiting(len(queue))
        self.in_wait(self.step)
        self.while_waiting(len(queue))
        while self.failing_groups:
            self.failing_groups -= 1
            del queue[next(iter(queue))]
            refill(1)
        if commit is not None:
            self._go_on(step, commit)
        while self.failing_after_pilots:
            self.failing_after_pilots -= 1
            del queue[next(iter(queue))]
            refill(1)
            assert commit is not None
            self._go_on(step, commit)
        rows = []
        for uid in list(queue)[:prompts]:
            content, n, begun_by = queue.pop(uid)
            for i in range(n):
                truncated = None if self.truncated is None else i < self.truncated * n
                scores = self._rewards(content.ground_truth, 0 if self.constant else i, n)
                versions = begun_by, int(self.engine_weights)
                rows.append(BatchRow(f"{uid}_{i}_0", scores, 1 + i, truncated=truncated, versions=versions))
        filtered = {} if self.informative_share is None else {INFORMATIVE_SHARE: self.informative_share}
        return RowsInMemory(rows, {"engine_weights": self.engine_weights, **filtered})

    def _go_on(self, step: int, commit: Commit) -> None:
        """Of the prompts that wait, in the order in which their pilots happen to come in, the last submitted first.
        ``correct`` decides."""
        waiting = {uid: of for uid, of in reversed(self.queue[step].items()) if uid not in self.committed}
        variances = {
            uid: pilot_variance([self._correct(content.ground_truth, i, n) for i in range(n)])
            for uid, (content, n, _) in waiting.items()
        }
        if not waiting:
            return
        self.pilots[step].append(variances)
        more = commit(variances)
        for uid, (content, n, begun_by) in waiting.items():
            self.queue[step][uid] = content, n + more[uid], begun_by
        self.committed |= waiting.keys()

    def _correct(self, number: int, sample: int, n: int) -> float:
        return float(self._rewards(number, 0 if self.constant else sample, n)["correct"])

    def tend(self, step: int, refill: Callable[[int], None], commit: Commit | None) -> int:
        self.tended.set()
        if self.failing_ahead:
            self.failing_ahead -= 1
            queue = self.queue[step]
            del queue[next(iter(queue))]
            refill(1)
            return 1
        if commit is not None:
            self._go_on(step, commit)
        return len(self.queue[step]) if self.slow(step) else 0

    def store(self, batch: Any, file: Path) -> None:
        save_state(file, {"rows": [list(row) for row in batch.handle], "metrics": dict(batch.metrics)})

    def restore(self, file: Path) -> RowsInMemory:
        state = load_state(file)
        return RowsInMemory([BatchRow(*row) for row in state["rows"]], state["metrics"])

    def spread(self, batch: Any) -> None:
        self.calls.append("spread")

    def _rewards(self, number: int, sample: int, n: int) -> dict[str, Any]:
        right = Outcome(float((sample * 7 + number) % n < number * n / 16 + self.engine_weights))
        short = Outcome(float(sample % 2))
        outcomes = {"correct": right, "short": short}
        if self.failing_reward is not None:
            outcomes[self.failing_reward] = Outcome.failed("exception", "injected")
        return decode(encode(outcomes))

    def old_log_probs(self, batch: Any) -> Metrics:
        self.calls.append("old_log_probs")
        return {
            "training/rollout_actor_probs_pearson_corr": self.correlation,
            "training/rollout_probs_diff_mean": 1 - self.correlation + self.difference,
        }

    def read(self, batch: Any) -> tuple[list[BatchRow], Metrics]:
        self.calls.append("read")
        return batch.handle, {}

    def texts(self, batch: Any, rows: Sequence[int]) -> Callable[[], list[RolloutText]]:
        return lambda: [RolloutText("prompt", batch.handle[row].key, 0, batch.handle[row].length) for row in rows]

    def write(
        self, batch: Any, rollouts: Rollouts, advantages_N: torch.Tensor, keep_N: torch.Tensor, modulation: Any
    ) -> None:
        self.calls.append("write")
        self.written.append(advantages_N)

    def tokens(self, batch: Any, rows: Sequence[int]) -> Callable[[], list[RolloutTokens]]:
        self.calls.append("tokens")
        keys = [batch.handle[row].key for row in rows]
        return lambda: [RolloutTokens([key, "<eos>"], [-0.5, -0.25], [1.0, 1.0], [True, True]) for key in keys]

    def update_actor(self, batch: Any) -> Metrics:
        self.calls.append("update_actor")
        self.in_update()
        self.weights.weights += 1
        return {"actor/grad_norm": 1.0}

    def update_weights(self) -> Metrics:
        self.calls.append("update_weights")
        self.engine_weights = self.weights.weights
        return {}

    def scored(self) -> list[list[Interval]]:
        return self.scoring

    def combine(self, parts: Sequence[tuple[Metrics, int]]) -> Metrics:
        total = sum(n for _, n in parts)
        names = {name for metrics, _ in parts for name in metrics}
        return {name: sum(metrics.get(name, 0.0) * n for metrics, n in parts) / total for name in names}

    def finish(self, batches: Sequence[Any], metrics: Metrics) -> Metrics:
        self.calls.append("finish")
        return metrics

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.logged[step] = dict(metrics)

    def validate(self, step: int) -> tuple[Metrics, list[ValidationRow]]:
        self.calls.append("validate")
        self.in_validation(step)
        self.while_waiting(1)
        content = PromptContent([{"role": "user", "content": "1"}], 1, "test")
        text = RolloutText("1", f"by weights {self.engine_weights}", 1, 3)
        row = ValidationRow("random_0_0", content, text, decode(encode({"correct": Outcome(1.0), "short": Outcome()})))
        return {"val-core/test/correct/mean@1": self.engine_weights}, [row]

    def waits_for(self, phase: str) -> str:
        return phase
