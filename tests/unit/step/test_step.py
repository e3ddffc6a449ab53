"""A step does what the drawing on top of ``step.py`` says, in that order, and faults end it before they do harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.budget.ids import content_ids, prompt_id
from mrpo.config.load import validate
from mrpo.record import token_file
from mrpo.record.alarms import Alarms
from mrpo.record.metrics import reward_names
from mrpo.record.phase import WARNINGS, Phase
from mrpo.record.run_folder import RunFolder
from mrpo.record.writer import BackgroundWriter
from mrpo.step.agreement import SteadyAgreement
from mrpo.step.budget import RolloutBudget
from mrpo.step.parts import Parts
from mrpo.step.position import Position
from mrpo.step.sampling import MAX_REFILLS
from mrpo.step.seam import Metrics, RolloutText
from mrpo.step.step import run_step

from .faulty_seam import FaultySeam

pytestmark = pytest.mark.unit

PROMPTS, N = 4, 8


def run_content(**sections: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "recipe": "test",
        "model": {"path": "m"},
        "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": PROMPTS},
        "rewards": {"correct": {"function": "r.py:c"}, "short": {"function": "r.py:s", "weight": 0.5}},
        "budget": {"method": "neyman", "low": 2, "high": 16, "rollouts_per_prompt": N, "signal": "total_variance"},
    }
    return {**content, **sections}


def parts(seam: FaultySeam, folder: Path, phases: list[str] | None = None, **sections: Any) -> Parts:
    config = validate(run_content(**sections))
    return Parts(
        config=config,
        seam=seam,
        budget=RolloutBudget(config.budget, config.advantage, PROMPTS, config.advantage_at),
        position=Position(seam),
        folder=RunFolder(folder),
        note=(phases if phases is not None else []).append,
        validate=lambda step: {f"validation/{name}": value for name, value in seam.validate(step)[0].items()},
        more_metrics=lambda: {"checkpoint/blocked_seconds": 0.0},
        writer=BackgroundWriter(),
        agreement=SteadyAgreement(config),
        alarms=Alarms(config.observe.alarms),
    )


def one_step(run: Parts) -> Metrics:
    """The first step, with what it leaves."""
    metrics = run_step(1, run)
    run.writer.settle()
    return metrics


def test_a_step_goes_from_prompts_to_its_record_in_the_documented_order(tmp_path: Path) -> None:
    seam, phases = FaultySeam(total_steps=1), list[str]()
    run = parts(seam, tmp_path, phases, trainer={"test_freq": 1})
    metrics = one_step(run)
    updates = ["wait", "spread", "old_log_probs", "read", "write", "update_actor"]
    assert seam.calls == ["next_prompts", "submit", *updates, "update_weights", "validate", "finish"]
    assert phases == ["rollout", "old_log_prob", "advantage", "update_actor", "update_weights"]
    assert seam.logged == {1: metrics}
    (line,) = RunFolder(tmp_path).metrics()
    assert {name: line[name] for name in metrics} == metrics
    assert metrics["reward/short/mean"] == 0.5
    assert metrics["validation/val-core/test/correct/mean@1"] == 1.0  # of the weights that the step has made


def test_a_mini_batch_each_is_updated_on_and_their_metrics_are_combined(tmp_path: Path) -> None:
    seam, phases = FaultySeam(mini_batches=2), list[str]()
    run = parts(seam, tmp_path, phases, budget={"rollouts_per_prompt": N})
    metrics = one_step(run)
    assert seam.calls.count("update_actor") == seam.calls.count("wait") == 2
    assert seam.calls.count("submit") == seam.calls.count("update_weights") == 1
    assert phases == ["rollout", "old_log_prob", "advantage", "update_actor"] * 2 + ["update_weights"]
    assert metrics["train/grad_norm"] == 1.0
    assert len(RunFolder(tmp_path).read_rollouts(1)) == PROMPTS * N


def test_every_rollout_is_recorded_with_its_own_rewards_and_the_advantage_that_was_written(tmp_path: Path) -> None:
    seam = FaultySeam()
    one_step(parts(seam, tmp_path))
    rows = RunFolder(tmp_path).read_rollouts(1)
    assert len(rows) == PROMPTS * N
    assert all(row["response"] == f"{row['uid']}_{row['sample']}_0" for row in rows)
    assert all(row["rewards"]["short"] == row["sample"] % 2 for row in rows)
    assert [row["advantage"] for row in rows] == seam.written[0].tolist()


def test_failed_groups_are_replaced_and_the_total_stays(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.failing_groups = 3
    metrics = one_step(parts(seam, tmp_path))
    assert seam.calls.count("submit") == 4
    assert metrics["budget/rollouts"] == PROMPTS * N
    assert len(RunFolder(tmp_path).read_rollouts(1)) == PROMPTS * N


def test_a_step_whose_groups_keep_failing_ends_the_run(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.failing_groups = 10_000
    with pytest.raises(RuntimeError, match=f"asked for 33 prompts, more than {MAX_REFILLS} times its 4"):
        one_step(parts(seam, tmp_path))


def test_rollouts_of_another_policy_are_not_learned_from(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.correlation = 0.0
    with pytest.raises(RuntimeError, match="the weights did not arrive"):
        one_step(parts(seam, tmp_path))
    assert not {"write", "update_actor", "update_weights"} & set(seam.calls)


def test_engines_that_steadily_differ_end_the_run_with_the_step_recorded(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.difference = 0.007
    run = parts(seam, tmp_path, model={"path": "m", "dtype": "float32"}, rollout={"dtype": "float32"})
    one_step(run)
    run_step(2, run)
    with pytest.raises(RuntimeError, match=r"for 3 steps .* by 0\.007 .* less than 0\.001 \(rollout\.max_probs_diff\)"):
        run_step(3, run)
    run.writer.settle()
    assert [line["step"] for line in RunFolder(tmp_path).metrics()] == [1, 2, 3]


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_rewards_are_told_apart_by_data_source_where_there_are_several(mini_batches: int, tmp_path: Path) -> None:
    seam = FaultySeam(mini_batches=mini_batches)
    seam.sources = ["openai/gsm8k", "letters"]
    metrics = one_step(parts(seam, tmp_path, budget={"rollouts_per_prompt": N}))
    scores: dict[str, list[float]] = {"reward/correct/mean/openai%2Fgsm8k": [], "reward/correct/mean/letters": []}
    for row in RunFolder(tmp_path).read_rollouts(1):
        (number,) = (n for n in range(16) if row["uid"].startswith(f"{prompt_id(*seam.content(n)):016x}"))
        scores[list(scores)[number % 2]].append(row["rewards"]["correct"])
    assert {name: metrics[name] for name in scores} == {name: fmean(of) for name, of in scores.items()}
    assert sorted(reward_names([metrics])) == ["correct", "short"]


def test_a_run_records_the_rollouts_that_it_is_asked_for_and_measures_all(tmp_path: Path) -> None:
    seam, folder = FaultySeam(total_steps=5), RunFolder(tmp_path)
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N}, observe={"rollouts": {"every": 2, "sample": N}})
    metrics = [run_step(number, run) for number in range(1, 6)]
    run.writer.settle()
    assert folder.rollout_steps() == [1, 2, 4, 5]
    assert [len(folder.read_rollouts(step)) for step in folder.rollout_steps()] == [N] * 4
    assert [one["budget/rollouts"] for one in metrics] == [PROMPTS * N] * 5


@pytest.mark.parametrize(("mini_batches", "sample"), [(1, None), (2, None), (1, N), (2, 2 * N)])
def test_single_tokens_are_recorded_of_whole_groups_that_are_recorded_themselves(
    tmp_path: Path, mini_batches: int, sample: int | None
) -> None:
    seam, folder = FaultySeam(total_steps=2, mini_batches=mini_batches), RunFolder(tmp_path)
    observe = {"tokens": N + 3, "rollouts": {"sample": sample}}
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N}, observe=observe)
    one_step(run)
    assert seam.calls.index("write") < seam.calls.index("tokens") < seam.calls.index("update_actor")
    found = list(token_file.read(folder.tokens_file(1)))
    sizes = Counter(one["uid"] for one in found)
    assert sorted(sizes.values()) == ([N] if sample == N else [3, N])
    assert [one["pieces"][0] for one in found] == [f"{one['uid']}_{one['sample']}_0" for one in found]
    assert {(one["uid"], one["sample"]) for one in found} <= {
        (row["uid"], row["sample"]) for row in folder.read_rollouts(1)
    }


def test_metrics_have_a_line_where_it_is_asked_for_and_where_a_step_is_validated_or_saved(tmp_path: Path) -> None:
    seam, folder = FaultySeam(total_steps=13), RunFolder(tmp_path)
    often: dict[str, Any] = {"trainer": {"test_freq": 6}, "checkpoint": {"every": 4}}
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N}, observe={"metrics": {"every": 5}}, **often)
    for number in range(1, 14):
        run_step(number, run)
    run.writer.settle()
    assert [line["step"] for line in folder.metrics()] == [1, 4, 5, 6, 8, 10, 12, 13]
    assert sorted(seam.logged) == list(range(1, 14))  # trackers have all of them


def test_a_step_whose_rollouts_are_not_recorded_reads_no_texts(tmp_path: Path) -> None:
    seam, read = FaultySeam(total_steps=5), list[int]()
    texts = seam.texts

    def read_texts(batch: Any, rows: Sequence[int]) -> Callable[[], list[RolloutText]]:
        read.append(seam.step)
        return texts(batch, rows)

    seam.texts = read_texts  # type: ignore[method-assign]
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N}, observe={"rollouts": {"every": 3}})
    for number in range(1, 6):
        run_step(number, run)
    assert read == [1, 3, 5]


def test_a_single_data_source_is_not_told_apart(tmp_path: Path) -> None:
    metrics = one_step(parts(FaultySeam(), tmp_path))
    assert not [name for name in metrics if name.endswith("/test") and name.startswith("reward/")]


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.75])
def test_truncated_responses_are_counted_and_a_run_of_mostly_these_warns_once(
    share: float | None, tmp_path: Path
) -> None:
    seam, folder = FaultySeam(), RunFolder(tmp_path)
    seam.truncated = share
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N})
    metrics = [run_step(number, run) for number in (1, 2)]
    run.writer.settle()
    assert [one.get("rollout/truncated_share") for one in metrics] == [share, share]
    told = [row["truncated"] for row in folder.read_rollouts(1)]
    assert told == (
        [None] * len(told) if share is None else [row["sample"] < share * N for row in folder.read_rollouts(1)]
    )
    alarms = [event for event in folder.events() if event["phase"] == Phase.ALARM and event["alarm"] == "truncated"]
    assert [event["step"] for event in alarms] == ([1] if share == 0.75 else [])
    assert all(event["detail"].startswith("75% of the responses reached data.max_response") for event in alarms)
    assert [line.get("alarm/truncated") for line in folder.metrics()] == [0.75 if share == 0.75 else None] * 2


def test_a_run_that_learns_nothing_or_throws_away_what_teaches_says_so_once(tmp_path: Path) -> None:
    seam, folder = FaultySeam(), RunFolder(tmp_path)
    run = parts(seam, tmp_path, budget={"filter_groups": "total"})
    for number in (1, 2, 3):  # healthy, and then twice with both faults
        run_step(number, run)
        seam.constant, seam.informative_share = True, 0.25
    run.writer.settle()
    told = {event["phase"]: event for event in folder.events() if event["phase"] in WARNINGS}
    assert {phase: event["step"] for phase, event in told.items()} == {
        Phase.NO_ADVANTAGE: 2,
        Phase.INFORMATIVE_DROPPED: 2,
    }
    assert told[Phase.NO_ADVANTAGE]["detail"].startswith("gdpo gives no rollout of the step an advantage")
    assert "25% of the groups that budget.filter_groups=total" in told[Phase.INFORMATIVE_DROPPED]["detail"]
    assert len([event for event in folder.events() if event["phase"] in WARNINGS]) == 2


def test_a_step_records_how_busy_reward_workers_were_where_its_metrics_are(tmp_path: Path) -> None:
    seam = FaultySeam(total_steps=5)
    seam.step_seconds, seam.scoring = 60.0, [[(70.0, 30.0)], [(1.0, 0.0)]]
    run = parts(seam, tmp_path, observe={"metrics": {"every": 3}})
    for number in (1, 2, 3):
        run_step(number, run)
    run.writer.settle()
    told = [event for event in RunFolder(tmp_path).events() if event["phase"] == Phase.SCORED]
    assert [event["step"] for event in told] == [1, 3]
    assert told[0]["busy"] == [0.5] * 30 + [0.0] * 29 + [0.5]


def test_masked_rollouts_are_in_no_loss_and_teach_the_budget_nothing(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.truncated = 0.5
    run = parts(seam, tmp_path, budget={"rollouts_per_prompt": N}, algorithm={"truncated": "mask"})
    metrics = one_step(run)
    assert "reward/correct/effective_weight" in metrics
    rows = RunFolder(tmp_path).read_rollouts(1)
    truncated = [row for row in rows if row["truncated"]]
    assert [row["keep"] for row in rows] == [not row["truncated"] for row in rows]
    assert all(row["advantage"] == 0 for row in truncated)
    assert any(row["advantage"] != 0 for row in rows)
    assert metrics["reward/correct/mean"] == fmean(row["rewards"]["correct"] for row in rows)  # the policy's
    uids = list(dict.fromkeys(row["uid"] for row in rows))
    known = run.budget.history.evidence(content_ids(uids))
    assert known.trials_GC[:, 0].tolist() == [N / 2] * PROMPTS
    assert run.budget.history.response_length(content_ids(uids)).tolist() == [
        fmean(row["tokens"] for row in rows if row["uid"] == uid) for uid in uids
    ]


def test_what_nobody_knows_masks_nothing_by_itself(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"nobody says whether rollout .* is truncated"):
        one_step(parts(FaultySeam(), tmp_path, algorithm={"truncated": "mask"}))


def test_weights_follow_the_step_in_advantages_and_in_what_the_budget_learns(tmp_path: Path) -> None:
    """``short`` counts from step 2 on; until then what is right alone decides."""
    seam = FaultySeam()
    rewards = {"correct": {"function": "r.py:c"}, "short": {"function": "r.py:s", "weight": {"step": {0: 0, 2: 3}}}}
    run = parts(seam, tmp_path, rewards=rewards, budget={"rollouts_per_prompt": N}, algorithm={"estimator": "grpo"})
    metrics = [run_step(number, run) for number in (1, 2)]
    run.writer.settle()
    assert [one["reward/short/weight"] for one in metrics] == [0, 3]
    assert "reward/correct/weight" not in metrics[0]
    totals: dict[int, float] = {}
    for step, weight in ((1, 0), (2, 3)):
        rows = RunFolder(tmp_path).read_rollouts(step)
        scores = [[row["rewards"][name] for name in rewards] for row in rows]
        groups = [list(dict.fromkeys(row["uid"] for row in rows)).index(row["uid"]) for row in rows]
        config = {"estimator": "grpo", "names": list(rewards), "weights": {"correct": 1.0, "short": weight}}
        expected = compute_advantages(torch.tensor(scores, dtype=torch.float64), torch.tensor(groups), config)
        assert [row["advantage"] for row in rows] == pytest.approx(expected.advantages_N.tolist())
        totals[step] = fmean(correct + weight * short for correct, short in scores)
        known = run.budget.history.evidence(content_ids([row["uid"] for row in rows]))
        assert known.mean_GC[:, -1].mean() == pytest.approx(totals[step])


def test_a_reward_that_fails_ends_the_step_and_leaves_what_it_failed_on(tmp_path: Path) -> None:
    seam = FaultySeam()
    seam.failing_reward = "short"
    with pytest.raises(RuntimeError, match=r"reward 'short' failed in 32 of 32 .*exception: injected.*1\.jsonl"):
        one_step(parts(seam, tmp_path))
    assert "update_actor" not in seam.calls
    rows = RunFolder(tmp_path).read_rollouts(1)
    assert len(rows) == PROMPTS * N
    assert all(row["failures"] == {"short": "exception: injected"} for row in rows)


def test_a_uid_says_which_prompt_and_which_draw_of_it(tmp_path: Path) -> None:
    run = parts(FaultySeam(), tmp_path)
    draws = [run.position.uids(run.seam.next_prompts(16)) for _ in range(2)]
    assert [uid.split("-")[0] for uid in draws[0]] == [uid.split("-")[0] for uid in draws[1]]
    assert [int(uid.split("-")[1]) for uids in draws for uid in uids] == list(range(32))
