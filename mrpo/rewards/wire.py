"""A rollout's outcomes on their way from a reward worker to the controller: both ends of the encoding.

verl carries a flat mapping beside each rollout (``reward_extra_info``), whose keys lie beside verl's own (``uid``,
``reward``, ``entropy``). So a reward's score stands under SCORE and its name, None where there is none; what failed
stands under ``FAILURES``, by reward, with its cause. Nothing here needs verl or torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mrpo.rewards.outcome import Outcome

SCORE = "score_"
"""Prefix of a reward's name on the wire."""

FAILURES = "reward_failures"
"""Key of the failures. They are JSON ("" if there are none): verl's validation metrics skip strings, and would choke
on a mapping."""

DETAILS = "reward_details"
"""Key of what reward functions returned besides their scores, by reward; JSON as FAILURES is."""

RESPONSE = "response_text"
"""Key in a row's ``extra_fields``: the text that the rewards have seen."""

TRUNCATED = "is_truncated"
"""Key in a row's ``extra_fields``: whether the response reached its limit before its end."""

MESSAGES = "messages"
"""Key in a row's ``extra_fields``, of a rollout of several turns: the messages after the prompt."""

TOOL_CALLS = "tool_calls"
"""Key beside it: the calls of tools in their order, each with ``name``, ``arguments``, ``result``, ``failure``."""

OUT_OF_ROOM = "out_of_room"
"""Key beside it: there, if the rollout ended since what a tool said had no room."""

LOSS_LENGTH = "loss_len"
"""Key in a row's tag, beside verl's ``response_len``: how many of the response's tokens are in the loss."""

REWARD, TURNS = "reward_score", "num_turns"
"""Keys in a row's tag: the weighted total of its rewards, and the turns of its conversation."""

INDEX = "index"
"""Key in a row's tag: the number of the row of data that it is of."""

PROMPT_HASH = "prompt_hash"
"""Key in a row's tag: the same for all rows of a uid whose prompt has the same tokens."""

SEEN = "seen_rollouts"
"""Key in a row's ``extra_fields``: every rollout of a prompt that was sampled in rounds, also those not selected."""


def encode(outcomes: Mapping[str, Outcome]) -> dict[str, float | str | None]:
    """The mapping that travels with a rollout.

    >>> encode({"correct": Outcome(1.0), "polite": Outcome.failed("timeout", "late")})
    {'score_correct': 1.0, 'score_polite': None, 'reward_failures': '{"polite": "timeout: late"}', 'reward_details': ''}
    """
    scores: dict[str, float | str | None] = {SCORE + name: outcome.score for name, outcome in outcomes.items()}
    failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure is not None}
    details = {name: json.loads(outcome.details) for name, outcome in outcomes.items() if outcome.details}
    return {
        **scores,
        FAILURES: json.dumps(failures) if failures else "",
        DETAILS: json.dumps(details) if details else "",
    }


def with_more(fields: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """``fields``, as ``encode`` made them, with the outcomes of further rewards of the rollout.

    >>> with_more(encode({"correct": Outcome(1.0)}), {"rare": Outcome.failed("timeout", "late")})
    {'score_correct': 1.0, 'reward_failures': '{"rare": "timeout: late"}', 'reward_details': '', 'score_rare': None}
    """
    more = encode(outcomes)
    for key, known in ((FAILURES, failures_of(fields)), (DETAILS, details_of(fields))):
        both = known | json.loads(str(more[key] or "{}"))
        more[key] = json.dumps(both) if both else ""
    return {**fields, **more}


def decode(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A rollout's components: each reward's score by its name, the failures and the details.

    >>> decode({"score_correct": 1.0, "reward_failures": "", "entropy": 0.5})
    {'correct': 1.0, 'reward_failures': ''}
    """
    scores = {name.removeprefix(SCORE): value for name, value in fields.items() if name.startswith(SCORE)}
    return scores | {name: fields[name] for name in (FAILURES, DETAILS) if name in fields}


def scores_of(fields: Mapping[str, Any], names: Sequence[str], rollout: object) -> list[float]:
    """The scores of ``names`` in their order, NaN where there is none.

    Raises:
        KeyError: a reward is absent, which is not the same as having no score. ``rollout`` is named in the message.
    """
    if missing := [name for name in names if name not in fields]:
        raise KeyError(f"rollout {rollout} has no reward {missing[0]!r}; it has {sorted(fields)}")
    return [float("nan") if fields[name] is None else float(fields[name]) for name in names]


def failures_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The rewards that failed, with their causes.

    >>> failures_of({"polite": None, "reward_failures": '{"polite": "timeout: no score within 60 s"}'})
    {'polite': 'timeout: no score within 60 s'}
    """
    failures: dict[str, str] = json.loads(fields.get(FAILURES) or "{}")
    return failures


def details_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What reward functions returned besides their scores, by reward.

    >>> details_of({"reward_details": '{"correct": {"extracted": "5"}}'})
    {'correct': {'extracted': '5'}}
    """
    details: dict[str, Any] = json.loads(fields.get(DETAILS) or "{}")
    return details
