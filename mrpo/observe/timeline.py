"""One step as it went: who was at work when, engines above reward workers above ranks, so that idle time is seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from mrpo.observe.axes import GREY, INK
from mrpo.observe.timing import PHASE_COLOURS
from mrpo.record import metrics
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RANKS = (Phase.OLD_LOG_PROB, Phase.REF_LOG_PROB, Phase.UPDATE_CRITIC, Phase.UPDATE_ACTOR, Phase.UPDATE_WEIGHTS)


class Bar(NamedTuple):
    """Something at work in a step, in seconds since it began."""

    phase: str
    began: float
    ended: float
    share: float = 1.0
    """Of those who have the lane, how many were at work."""


class StepTimeline(NamedTuple):
    """The bars of one step, and how long it was."""

    step: int
    seconds: float
    engines: list[Bar]
    ranks: list[Bar]
    reward_workers: list[Bar] | None = None
    """None: nobody knows."""

    @property
    def lanes(self) -> dict[str, list[Bar]]:
        """By name, from the top down."""
        scoring = {} if self.reward_workers is None else {"rewards": self.reward_workers}
        return {"engines": self.engines, **scoring, "ranks": self.ranks}

    @property
    def idle(self) -> dict[str, float]:
        """The share of the step in which each of the lanes had nothing to do."""
        return {
            who: 1 - sum(bar.share * (bar.ended - bar.began) for bar in bars) / self.seconds
            for who, bars in self.lanes.items()
        }


def timeline(records: Sequence[Record], events: Sequence[Record]) -> StepTimeline | None:
    """The last step that can be drawn, without its validation; None if there is none.

    Args:
        records: lines of metrics.jsonl.
        events: lines of events.jsonl. The ranks' parts are told by when the next phase begins, and how long engines
            sampled by what the step says of their idle time.
    """
    for record in reversed(records):
        seconds, idle = (metrics.number(record, f"time/{name}") for name in ("step", "engine_idle"))
        of_step = [event for event in events if event.get("step") == record["step"]]
        began = next((i for i in range(len(of_step) - 1, -1, -1) if _begins(of_step, i)), None)
        if not seconds or idle is None or began is None:
            continue
        start, ranks = of_step[began]["time"], []
        for event, following in zip(of_step[began:], [*of_step[began + 1 :], None], strict=True):
            until = seconds if following is None else min(seconds, following["time"] - start)
            if event["phase"] in _RANKS and until > event["time"] - start:
                ranks.append(Bar(event["phase"], event["time"] - start, until))
        engines = [Bar(Phase.ROLLOUT, 0.0, seconds - idle)] if seconds > idle else []
        return StepTimeline(int(record["step"]), seconds, engines, ranks, _scoring(of_step[began:], seconds))
    return None


def _scoring(events: Sequence[Record], seconds: float) -> list[Bar] | None:
    """The reward workers' bars: as high as the share of them that was at work, neighbours of one height as one."""
    shares = next((event["busy"] for event in reversed(events) if event["phase"] == Phase.SCORED), None)
    if shares is None:
        return None
    bars, place = [], 0
    for share, alike in groupby(shares):
        width = len(list(alike))
        began, ended = (seconds * at / len(shares) for at in (place, place + width))
        bars += [Bar(Phase.REWARD, began, ended, share)] if share > 0 else []
        place += width
    return bars


def _begins(of_step: Sequence[Record], place: int) -> bool:
    """Whether this is where the step's last attempt began: it waits for rollouts, and hasn't trained yet."""
    before = of_step[place - 1]["phase"] if place else None
    return of_step[place]["phase"] == Phase.ROLLOUT and before != Phase.UPDATE_ACTOR


def draw_timeline(panel: Axes, drawn: StepTimeline) -> None:
    lanes = dict(reversed(drawn.lanes.items()))
    for height, (who, bars) in enumerate(lanes.items()):
        panel.barh([height], [drawn.seconds], color="#F2F2F2", height=0.62, linewidth=0)
        for bar in bars:
            colour = PHASE_COLOURS.get(bar.phase, GREY)
            below = height - 0.31 * (1 - bar.share)  # its middle: bars stand on the lane's floor
            tall, seconds = 0.62 * bar.share, bar.ended - bar.began
            panel.barh([below], [seconds], left=[bar.began], height=tall, color=colour, label=bar.phase)
        panel.text(drawn.seconds * 1.01, height, f"idle {drawn.idle[who]:.0%}", va="center", color=INK)
    panel.set_yticks(range(len(lanes)), lanes)
    panel.set_xlim(0, drawn.seconds * 1.1)
    panel.grid(visible=False)
    panel.set_xlabel(f"seconds of step {drawn.step}")
    named = dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    panel.legend(named.values(), named.keys(), loc="upper center", bbox_to_anchor=(0.5, 1.32), ncols=len(named))
