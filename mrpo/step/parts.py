"""What one step knows, and what all steps of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mrpo.config.run import RunConfig
from mrpo.record.alarms import Alarms
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.record.writer import BackgroundWriter
from mrpo.step.agreement import SteadyAgreement
from mrpo.step.budget import BatchPlan, RolloutBudget
from mrpo.step.position import Position
from mrpo.step.rollouts import Rollouts
from mrpo.step.seam import Batch, Metrics, Seam


@dataclass
class Step:
    """What one step knows. It begins when its prompts are submitted, which is before its turn with ``rollout.ahead``,
    and nothing of it outlives it."""

    number: int
    plan: BatchPlan = field(default_factory=BatchPlan)
    began_at: dict[str, Any] | None = None
    """Where the run was in its data when the first of the step's prompts were fetched (``Position.state_dict``); None
    where nobody will have to fetch them again."""
    sampled_at: float | None = None
    """When its rollouts were first known to be complete (``time.monotonic``)."""
    ready: list[Batch] = field(default_factory=list)
    """Batches that are complete and wait for their turn."""
    batches: list[Batch] = field(default_factory=list)
    """Batches that have had it."""
    earned: list[tuple[Batch, Rollouts, torch.Tensor]] = field(default_factory=list)
    """Batches that the budget has not learned from yet, with their rollouts and the advantages of these."""
    source_of: dict[str, str] = field(default_factory=dict)
    """Data source of each prompt, by its uid."""
    scores: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By reward and data source."""
    records: list[Callable[[], list[dict[str, Any]]]] = field(default_factory=list)
    """Of each batch that the run folder gets: makes a line a rollout of it, when the line is written."""
    tokens: list[Callable[[], list[dict[str, Any]]]] = field(default_factory=list)
    """Of each batch: makes a record for every rollout whose single tokens the run folder may get."""
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What all steps of a run share."""

    config: RunConfig
    seam: Seam
    budget: RolloutBudget
    position: Position
    folder: RunFolder
    note: Callable[[Phase], None]
    """Says that a phase of the step begins."""
    validate: Callable[[int], Metrics]
    more_metrics: Callable[[], Metrics]
    """Metrics of what happened between steps."""
    writer: BackgroundWriter
    """Of what a step leaves."""
    agreement: SteadyAgreement
    alarms: Alarms
    under_way: dict[int, Step] = field(default_factory=dict)
    """Steps whose prompts are submitted and whose turn has not come, by number."""
    sources: set[str] = field(default_factory=set)
    """Data sources that this attempt has seen: rewards are told apart by them from the second on."""
    warned: set[Phase] = field(default_factory=set)
    """Of what this attempt has warned already."""
