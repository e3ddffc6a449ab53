"""Two data sources in one run, each with a reward of its own: training, dynamic sampling, budget and validation.

Half the prompts are ``letters``, half are ``chat``; ``correct`` scores the first and ``tagged`` the second, and
``short`` requires ``correct``. Prompts whose ``correct`` doesn't vary are replaced, which says nothing about ``chat``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mrpo.record.run_folder import RunFolder

from .conftest import Once, Train

pytestmark = pytest.mark.proof


@pytest.fixture(scope="session")
def sources_run(train: Train, quickstart: Path, once: Once) -> RunFolder:
    prompts = pd.read_parquet(quickstart / "train.parquet").head(20)
    letters, chat = prompts.assign(data_source="letters"), prompts.assign(data_source="open/chat")

    def write(folder: Path) -> None:
        letters.head(8).to_parquet(folder / "letters.parquet")
        chat.iloc[8:16].to_parquet(folder / "chat.parquet")
        letters.tail(4).to_parquet(folder / "validation.parquet")

    folder = once("sources", write)
    return train(
        "of-sources",
        f"data.train_files=[{folder}/letters.parquet,{folder}/chat.parquet]",
        f"data.val_files=[{folder}/validation.parquet]",
        "data.train_batch_size=8",
        "rewards.correct.sources=[letters]",
        "rewards.tagged.sources=[open/chat]",
        "rewards.short.requires={correct: 1}",
        "budget.method=neyman",
        "budget.low=2",
        "budget.rollouts_per_prompt=4",
        "budget.filter_groups=correct",
        "checkpoint.every=1",
        "checkpoint.keep_best=1",
        "checkpoint.best_metric=validation/val-aux/letters/correct/mean@1",
        "trainer.total_training_steps=4",
        "trainer.test_freq=2",
    )


def test_each_source_is_scored_by_its_own_rewards(sources_run: RunFolder) -> None:
    found = {"letters": 0, "chat": 0}
    for step in sources_run.rollout_steps():
        groups: dict[str, list[float | None]] = {}
        for row in sources_run.read_rollouts(step):
            rewards = row["rewards"]
            assert (rewards["correct"] is None) != (rewards["tagged"] is None)
            assert rewards["short"] is not None
            assert "failures" not in row
            groups.setdefault(row["uid"], []).append(rewards["correct"])
        for scores in groups.values():
            applies = scores[0] is not None
            assert all((score is not None) == applies for score in scores)
            assert not applies or len(set(scores)) > 1  # of the others none was replaced
            found["letters" if applies else "chat"] += 1
    assert min(found.values()) > 0


def test_rollouts_to_which_a_condition_doesnt_apply_learn_from_their_own_reward(sources_run: RunFolder) -> None:
    moved = 0
    for step in sources_run.rollout_steps():
        groups: dict[str, list[tuple[float, float]]] = {}
        for row in sources_run.read_rollouts(step):
            if (tagged := row["rewards"]["tagged"]) is not None:
                groups.setdefault(row["uid"], []).append((tagged, row["advantage"]))
        for group in groups.values():
            if len({tagged for tagged, _ in group}) == 1:  # ``short`` differs, and counts 0 all the same
                assert all(advantage == 0 for _, advantage in group)
            else:
                best, worst = max(group), min(group)
                assert best[1] > worst[1]
                moved += 1
    assert moved > 0


def test_the_budget_learns_of_both_sources(sources_run: RunFolder) -> None:
    for record in sources_run.metrics():
        assert record["budget/rollouts"] == 32
        assert record["reward/correct/missing_share"] + record["reward/tagged/missing_share"] == pytest.approx(1)
        assert record["advantage/unscored_share"] == 0
        assert record["train/grad_norm"] > 0
    last = sources_run.metrics()[-1]  # by now there are only prompts that have been seen
    assert last["budget/unknown_prompts"] < 1
    assert any(record["budget/n/min"] < record["budget/n/max"] for record in sources_run.metrics())


def test_a_validation_of_one_source_has_no_mean_of_the_other_ones_reward(sources_run: RunFolder) -> None:
    validated = [record for record in sources_run.metrics() if record["step"] % 2 == 0]
    assert len(validated) == 2
    for record in validated:
        names = {name for name in record if name.startswith("validation/")}
        assert "validation/val-aux/letters/correct/mean@1" in names
        assert not any("/tagged/" in name for name in names)
    assert (sources_run.path / "model").is_dir()
