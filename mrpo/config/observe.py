"""How much a run records of itself: the default keeps every rollout, which a month's run may not want to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from mrpo.config.alarms import AlarmsConfig
from mrpo.config.base import StrictModel

TOKEN_BYTES = 10
"""About what a token takes whose values are recorded, compressed."""


def _draw(uid: str) -> bytes:
    """By which prompt groups are put in order where a part of them is recorded."""
    return hashlib.blake2b(uid.encode()).digest()


class StepRecord(StrictModel):
    """Which steps are recorded."""

    every: int = Field(default=1, ge=1)
    """Steps between recorded ones. The first step and the last are always recorded."""

    def has(self, step: int, total_steps: int) -> bool:
        """Whether the step is recorded.

        >>> [step for step in range(1, 26) if StepRecord(every=10).has(step, 25)]
        [1, 10, 20, 25]
        """
        return step % self.every == 0 or step in (1, total_steps)

    def count(self, total_steps: int) -> int:
        """How many steps are recorded.

        >>> StepRecord(every=10).count(25)
        4
        """
        return len({1, total_steps, *range(self.every, total_steps + 1, self.every)})


class RolloutRecord(StepRecord):
    """Which rollouts go into ``rollouts/<step>.jsonl``. Metrics are of all of them, whatever is recorded."""

    sample: int | None = Field(default=None, ge=1)
    """Record about so many rollouts of a step: whole prompt groups, drawn by their uids, as many as fit and one at
    least. Unset: all."""

    def of(self, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows of a step that are recorded, in their order. They follow from the uids alone, so a step that is run
        again records the same."""
        rows = list(rows)
        if self.sample is None:
            return rows
        sizes: dict[str, int] = {}
        for row in rows:
            sizes[row["uid"]] = sizes.get(row["uid"], 0) + 1
        chosen, room = set[str](), self.sample
        for uid in sorted(sizes, key=_draw):
            if not chosen or sizes[uid] <= room:
                chosen.add(uid)
                room -= sizes[uid]
        return [row for row in rows if row["uid"] in chosen]

    def __str__(self) -> str:
        """What is left out, in words; empty if nothing is."""
        steps = f"every {self.every} steps" if self.every > 1 else ""
        rollouts = f"about {self.sample} rollouts of a step" if self.sample else ""
        return ", ".join(filter(None, (steps, rollouts)))


class ObserveConfig(StrictModel):
    """What a run leaves for those who look at it. ``docs/long_runs.md`` says what it takes on disk."""

    rollouts: RolloutRecord = Field(default_factory=RolloutRecord)
    """Which rollouts are recorded."""
    metrics: StepRecord = Field(default_factory=StepRecord)
    """Which steps have a line in ``metrics.jsonl``; those that are validated or saved have one as well. Tracking
    backends (``trainer.logger``) get every step."""
    tokens: int = Field(default=0, ge=0)
    """Of so many rollouts in each step that is recorded, ``tokens/<step>.jsonl.gz`` has every token's text,
    log-probability and advantage, which the report colours: whole prompt groups, drawn by their uids, of which the last
    may be cut. About 10 bytes a token."""
    validations: int | None = Field(default=None, ge=1)
    """Keep the rollouts of the first validation and of so many of the newest. Unset: of all."""
    alarms: AlarmsConfig | None = Field(default_factory=AlarmsConfig)
    """When a run raises an alarm, which is advice and never ends it (``docs/alarms.md``). null: never."""

    def with_tokens(self, keys: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Of rollouts, by uid and sample, the first ``tokens``, a prompt group after the other. The order is that in
        which ``RolloutRecord`` takes groups, and follows from the uids alone; so the first of several parts are among
        the first of each.

        >>> ObserveConfig(tokens=3).with_tokens([("b", 1), ("a", 0), ("b", 0), ("a", 1)])
        [('b', 0), ('b', 1), ('a', 0)]
        """
        return sorted(keys, key=lambda key: (_draw(key[0]), key[1]))[: self.tokens]

    def require_known(self, rewards: Iterable[str]) -> None:
        """Raises ConfigError if an alarm ignores a reward that isn't among ``rewards``."""
        if self.alarms is not None:
            self.alarms.require_known(rewards)
