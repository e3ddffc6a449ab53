"""A validation's rollouts as the run folder keeps them, so that those of two validations can be laid side by side.

verl gives each prompt of a validation a random uid. Here it gets the id of its content (``mrpo.budget.ids``), which is
the same in every validation of every run, and what two models answered is joined by.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mrpo.budget.ids import prompt_id
from mrpo.rewards.wire import details_of, failures_of, scores_of
from mrpo.step.rollouts import RowKey
from mrpo.step.seam import ValidationRow


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
        }
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
