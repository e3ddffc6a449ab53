"""A validation's rollouts as the run folder keeps them, so that those of two validations can be laid side by side.

verl gives each prompt of a validation a random uid. Here it gets the id of its content (``mrpo.budget.ids``), which is
the same in every validation of every run, and what two models answered is joined by.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mrpo.budget.ids import prompt_id
from mrpo.record.metrics import name_part
from mrpo.rewards.wire import details_of, failures_of, scores_of
from mrpo.step.rollouts import RowKey
from mrpo.step.seam import ValidationRow


def with_gaps(
    metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]], weights: Mapping[str, float], n: int
) -> dict[str, Any]:
    """A validation's metrics, with means that leave missing scores out and cover all prompts.

    verl averages prompts with all of their scores and prompts without some apart (``mean@4``, ``mean@3``), and counts a
    rollout without any score as a total of 0. Where a score is missing, the mean is of the prompts' means over the
    scores that there are, as ``mean@n``; it is absent where there is none.

    Args:
        metrics: verl's, under our names: ``kind/data source/reward/statistic``.
        records: of ``validation_records``.
        weights: of all rewards.
        n: responses to each prompt.
    """
    found = dict(metrics)
    for source in {record["data_source"] for record in records}:
        of_source = [record for record in records if record["data_source"] == source]
        for name in (*weights, "total"):
            scores = [_score(record["rewards"], name, weights) for record in of_source]
            if None not in scores:
                continue
            of_verl = re.compile(rf"val-(core|aux)/{re.escape(name_part(source))}/{name}/mean@\d+")
            found = {key: value for key, value in found.items() if not of_verl.fullmatch(key)}
            prompts: dict[str, list[float]] = {}
            for record, score in zip(of_source, scores, strict=True):
                if score is not None:
                    prompts.setdefault(record["uid"], []).append(score)
            if prompts:
                kind = "core" if name == "total" else "aux"
                found[f"val-{kind}/{name_part(source)}/{name}/mean@{n}"] = fmean(map(fmean, prompts.values()))
    return found


def _score(rewards: Mapping[str, float | None], name: str, weights: Mapping[str, float]) -> float | None:
    if name != "total":
        return rewards[name]
    known = [weights[reward] * s for reward, s in rewards.items() if s is not None and weights[reward] > 0]
    return sum(known) if known else None


def validation_records(rows: Sequence[ValidationRow], names: Sequence[str]) -> list[dict[str, Any]]:
    """One record a rollout, by uid and sample. Rows of the data with the same content are one prompt with more samples.

    Args:
        rows: of one validation, in any order.
        names: of the rewards.

    Raises:
        KeyError: a rollout lacks a reward, which is not the same as having no score.
    """
    last: dict[tuple[str, int], tuple[int, ValidationRow]] = {}
    for row in rows:
        key = RowKey.parse(row.key)
        if key[:2] not in last or last[key[:2]][0] < key.turn:
            last[key[:2]] = key.turn, row
    found = []
    for (_, sample), (_, row) in last.items():
        scores = scores_of(row.components, names, row.key)
        record = {
            "uid": f"{prompt_id(*row.prompt):016x}",
            "sample": sample,
            "data_source": str(row.prompt.data_source),
            "prompt": row.text.prompt,
            "response": row.text.response,
            "ground_truth": row.text.ground_truth,
            "rewards": {name: None if math.isnan(s) else s for name, s in zip(names, scores, strict=True)},
            "tokens": row.text.tokens,
            "truncated": row.truncated,
        }
        if row.text.messages is not None:
            record["messages"] = list(row.text.messages)
        if failures := failures_of(row.components):
            record["failures"] = failures
        if details := details_of(row.components):
            record["details"] = details
        found.append(record)
    # Copies of a prompt have the same sample numbers: their responses put them in an order, and they are counted anew.
    found.sort(key=lambda record: (record["uid"], record["sample"], record["response"]))
    counted: Counter[str] = Counter()
    for record in found:
        record["sample"] = counted[record["uid"]]
        counted[record["uid"]] += 1
    return found
