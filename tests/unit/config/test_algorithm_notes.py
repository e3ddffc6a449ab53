"""Settings that together do what neither says."""

from __future__ import annotations

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.config.check import WITH_BATCH_NORM, algorithm_notes
from mrpo.config.estimators import ALGORITHM
from mrpo.config.load import load_run_config

pytestmark = pytest.mark.unit

SEQUENCE_MEAN = "actor.loss_agg_mode=seq-mean-token-mean"


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        (("algorithm.preset=verl", SEQUENCE_MEAN), True),
        (("algorithm.batch_norm=token", SEQUENCE_MEAN), True),
        (("algorithm.preset=verl", "algorithm.batch_norm=sequence", SEQUENCE_MEAN), False),
        (("algorithm.preset=verl", "algorithm.estimator=grpo", SEQUENCE_MEAN), False),
        (("algorithm.preset=verl", "algorithm.estimator=saw", SEQUENCE_MEAN), False),
        (("algorithm.preset=verl", "algorithm.estimator=saw", "algorithm.form=gdpo", SEQUENCE_MEAN), True),
        (("algorithm.preset=verl", "actor.loss_agg_mode=token-mean"), False),
        ((SEQUENCE_MEAN,), False),
    ],
)
def test_a_batch_norm_of_tokens_with_a_loss_of_sequences_is_noted(settings: tuple[str, ...], noted: bool) -> None:
    notes = algorithm_notes(load_run_config(["recipe=quickstart", *settings])[0])
    assert bool(notes) == noted
    assert all("algorithm.batch_norm=sequence" in note for note in notes)


def test_the_estimators_with_a_batch_norm_are_those_that_the_preset_changes() -> None:
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    group_ids_N, lengths_N = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([1, 2, 30, 4, 5, 60])
    changed = set()
    for name in ALGORITHM.methods:
        norms = [
            compute_advantages(
                rewards_NK,
                group_ids_N,
                {"names": ("a", "b"), "estimator": name, "preset": "verl", "batch_norm": unit},
                lengths_N=lengths_N,
            ).advantages_N
            for unit in ("auto", "none")
        ]
        if not torch.equal(*norms):
            changed.add(name)
    assert changed == set(WITH_BATCH_NORM)
