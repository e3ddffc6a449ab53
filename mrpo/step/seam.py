"""What a step asks of the stack below it: a dozen verbs, with no word about how they are done.

``mrpo.verl_seam.seam`` does them on verl, Ray and TransferQueue. Shapes: N rollouts, G prompts, M rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from mrpo.config.advantage import TokenModulation
from mrpo.record.busy import Interval
from mrpo.record.token_file import RolloutTokens
from mrpo.step.checkpointing import Ranks
from mrpo.step.rollouts import BatchRow, Rollouts

Metrics = dict[str, Any]
Commit = Callable[[Mapping[str, float]], Mapping[str, int]]
"""From the variance of each prompt's pilot to how many rollouts more it gets, by uid."""


class PromptContent(NamedTuple):
    """What identifies a prompt: two rows of the data with the same content are the same prompt."""

    messages: list[Any]
    ground_truth: Any
    data_source: Any


@dataclass(frozen=True)
class Prompts:
    """G prompts on their way to the engines. ``handle`` is theirs in the seam; nobody else looks inside."""

    contents_G: Sequence[PromptContent]
    handle: Any


class Batch(Protocol):
    """Rollouts of whole prompt groups, scored, as the seam holds them. Nobody else looks inside ``handle``."""

    handle: Any
    metrics: Metrics
    """What sampling it has measured."""

    @property
    def size(self) -> int:
        """Rows that are no padding."""


class RolloutText(NamedTuple):
    """A rollout as a person reads it."""

    prompt: str
    response: str
    ground_truth: Any
    tokens: int
    """That the model wrote, in all turns."""
    messages: Sequence[Mapping[str, Any]] | None = None
    """Those after the prompt, where there are several turns."""


class ValidationRow(NamedTuple):
    """One row of a validation: an output of a rollout, of several the last stands for it."""

    key: str
    prompt: PromptContent
    text: RolloutText
    components: Mapping[str, Any]
    """The rollout's scores and failures (``mrpo.rewards.wire``)."""
    truncated: bool | None = None
    """Whether the response reached its limit before its end; None: nobody knows."""


class Seam(Protocol):
    """The stack under a run. Every verb returns when it is done; ``wait`` and ``validate`` call ``while_waiting``."""

    total_steps: int
    mini_batches: int
    """Batches, each with an update of its own, that a step's prompts come in."""
    ranks: Ranks
    while_waiting: Callable[[int], None]
    """Called again and again with the number of prompts without an end. It may raise to break off the wait."""

    # ---- around steps ----

    def load(self, folder: Path | None, step: int) -> bool:
        """Give the ranks the states of ``step``; without a folder they keep what the model's files say. Returns whether
        they were saved by another number of ranks."""

    def load_model(self, model: str) -> None:
        """Give the ranks the weights of another Hugging Face folder, or name on the hub, of the same architecture."""

    def pause(self) -> None:
        """Engines that share the ranks' devices leave them the memory, until they ``serve`` again."""

    def serve(self, step: int) -> None:
        """Give the engines the weights of ``step`` and get ready for prompts."""

    def loader_state(self) -> dict[str, Any]: ...

    def load_loader_state(self, state: dict[str, Any]) -> None: ...

    def timed_step(self, step: int, timings: dict[str, float]) -> AbstractContextManager[None]:
        """What is in the block is of ``step``. ``timings`` takes the seconds of each part of the step."""

    def timed(self, part: str) -> AbstractContextManager[None]:
        """Add the time of the block to ``timings[part]``."""

    def end(self) -> None:
        """No step follows: write what is still being written."""

    # ---- a step, in its order ----

    def next_prompts(self, count: int) -> Prompts:
        """The next of the data."""

    def select(self, prompts: Prompts, chosen: Sequence[int]) -> Prompts:
        """Those of ``prompts``, by number."""

    def unfinished_prompts(self) -> set[str]:
        """Uids of the training prompts that were submitted and neither trained on nor thrown away."""

    def submit(self, prompts: Prompts, uids_G: Sequence[str], n_G: Sequence[int], step: int) -> None:
        """Start the rollouts that ``step`` trains on: ``n_G[i]`` of the prompt ``uids_G[i]``. Rewards are computed as
        each ends. Where the budget has pilots, these are them."""

    def wait(self, step: int, prompts: int, refill: Callable[[int], None], commit: Commit | None) -> Batch:
        """The next batch of so many prompt groups of ``step``. ``refill(count)`` is asked to submit others for groups
        that failed or were filtered out; ``commit``, where the budget has pilots, when all of the step's prompts
        without an end have theirs."""

    def tend(self, step: int, refill: Callable[[int], None], commit: Commit | None) -> int:
        """Replace the groups of ``step`` that have failed or are filtered out by now, and go on with its prompts whose
        pilots are there. Returns how many of its prompts have no end yet. May be called while the ranks are at work,
        from another thread."""

    def store(self, batch: Batch, file: Path) -> None:
        """Write a batch that ``wait`` has given, tokens, scores and all, as plain tensors and JSON."""

    def restore(self, file: Path) -> Batch:
        """Take up what ``store`` has written. Raises CheckpointError if that isn't what the file holds."""

    def spread(self, batch: Batch) -> None:
        """Give each rank as many tokens; adds padding rows where ranks and mini-batches need them."""

    def old_log_probs(self, batch: Batch) -> Metrics:
        """Log-probabilities of the policy before its update, and of the reference policy where there is one."""

    def read(self, batch: Batch) -> tuple[list[BatchRow], Metrics]:
        """The M rows of the batch, each under its key, and the metrics of verl's importance correction, if it is on."""

    def texts(self, batch: Batch, rows: Sequence[int]) -> Callable[[], list[RolloutText]]:
        """What those rows hold, for a person: read at once, decoded when the result is called, in whatever thread."""

    def write(
        self,
        batch: Batch,
        rollouts: Rollouts,
        advantages_N: torch.Tensor,
        keep_N: torch.Tensor,
        modulation: TokenModulation | None,
    ) -> None:
        """Give each token its advantage; tokens of rollouts that leave the loss lose their mask."""

    def tokens(self, batch: Batch, rows: Sequence[int]) -> Callable[[], list[RolloutTokens]]:
        """What the single tokens of those rows are, with the advantages that ``write`` has given them: read at once,
        decoded when the result is called, in whatever thread."""

    def update_actor(self, batch: Batch) -> Metrics: ...

    def update_weights(self) -> Metrics:
        """Give the engines the weights that the ranks have now, by which rollouts under way go on. Replaces engines
        that died idle before."""

    def scored(self) -> list[list[Interval]]:
        """Of each reward worker that says it, when it was at work since it was last asked."""

    def combine(self, parts: Sequence[tuple[Metrics, int]]) -> Metrics:
        """One mapping of the metrics of a step's mini-batches, each with its number of rollouts."""

    def finish(self, batches: Sequence[Batch], metrics: Metrics) -> Metrics:
        """``metrics`` with those of the whole step added; afterwards the rows are gone."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Send a step's metrics to the tracking backends (``trainer.logger``)."""

    # ---- beside steps ----

    def validate(self, step: int) -> tuple[Metrics, list[ValidationRow]]:
        """Metrics and rollouts of the validation set, by the weights that the engines have. ``step`` is part of the
        sampling seeds."""

    def waits_for(self, phase: str) -> str:
        """Who would have to end ``phase``, in words."""
