"""Equal budgets: what ``--budget UNIT=N`` makes of a cell, or why it can't."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrpo.compare.run import Run, rollouts_per_step
from mrpo.config.flatten import flatten
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError

Unit = Literal["rollouts", "tokens", "seconds"]
UNITS: tuple[Unit, ...] = ("rollouts", "tokens", "seconds")
STEPS = "trainer.total_training_steps"
NO_LIMIT = 1_000_000
"""Steps of a cell whose budget isn't counted in steps: it is asked to stop once it has had its share."""


@dataclass(frozen=True)
class EqualBudget:
    """What each cell gets: rollouts trained on, tokens of prompts and responses, or seconds of training steps."""

    unit: Unit
    amount: int

    @classmethod
    def parse(cls, text: str) -> EqualBudget:
        """
        >>> EqualBudget.parse("rollouts=6400")
        EqualBudget(unit='rollouts', amount=6400)

        Raises:
            ConfigError: it is no budget.
        """
        given, _, amount = text.partition("=")
        unit = next((unit for unit in UNITS if unit == given), None)
        if unit is None or not amount.isascii() or not amount.isdecimal() or int(amount) < 1:
            raise ConfigError(f"--budget: given {text!r}, allowed: rollouts=N, tokens=N or seconds=N.")
        return cls(unit, int(amount))

    def steps(self, config: RunConfig) -> int:
        """The steps that a cell is given for it.

        Raises:
            ConfigError: the cell can't have exactly this budget.
        """
        if self.unit != "rollouts":
            if config.observe.metrics.every > 1:
                raise ConfigError(
                    f"--budget: given {self}, which is counted by the lines of metrics.jsonl. Allowed: "
                    f"observe.metrics.every=1, given {config.observe.metrics.every}."
                )
            return NO_LIMIT
        each = rollouts_per_step(dict(flatten(config.model_dump(mode="json"))))
        if each is None:
            raise ConfigError(
                f"--budget: given {self}, but with budget.rounds, budget.filter_groups, budget.unit=tokens or "
                "budget.method=pilot_commit a step's rollouts vary, so cells can't be made equal in them. Allowed: "
                "tokens=N or seconds=N."
            )
        if self.amount % each:
            near = max(1, round(self.amount / each)) * each
            raise ConfigError(
                f"--budget: given {self}, allowed: a multiple of the {each} rollouts of a step "
                f"(data.train_batch_size x budget.rollouts_per_prompt), say {near}."
            )
        return self.amount // each

    def is_used_up(self, run: Run) -> bool:
        """Whether a cell that is stopped rather than done has had all of it."""
        counts = run.counts.get(self.unit)
        return self.unit != "rollouts" and counts is not None and len(counts) > 0 and counts[-1] >= self.amount

    def __str__(self) -> str:
        return f"{self.unit}={self.amount}"


def read_budget(folder: Path) -> EqualBudget | None:
    """The budget that a grid's folder was begun with."""
    file = folder / BUDGET_FILE
    return EqualBudget.parse(file.read_text(encoding="utf-8").strip()) if file.is_file() else None


BUDGET_FILE = "budget"
"""In a grid's folder: the budget of all its cells, as ``--budget`` has it."""
