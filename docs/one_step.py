"""The training step, written out on a policy small enough to read: budget, rollouts, rewards, advantages, update.

    python docs/one_step.py

Prompts are questions with six possible answers; the policy is a softmax over each question's answers. Three rewards
partly conflict. Half of the questions are open, the policy's choice matters; for the others all answers are worth
nearly the same, as of a question that is too easy or too hard, and a rollout of theirs teaches little. The budget
starts out uniform, learns which is which from the rollouts' rewards, moves rollouts to the open ones, and begins to
move them back as those are learned.

Nothing here knows Ray or verl, which in a real run do the two things that this file does in a line each: sample from a
language model, and update it. Shapes: G prompts (and their groups), N rollouts, K rewards, A answers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mrpo.advantages import compute_advantages
from mrpo.budget.allocate import allocate
from mrpo.budget.history import PromptHistory
from mrpo.budget.ids import prompt_id

REWARDS = ("correct", "format", "short")
PROMPTS, ANSWERS, OPEN = 16, 6, 8
ROLLOUTS, LOW, HIGH = 8 * PROMPTS, 2, 32
LEARNING_RATE = 1.0


class Step(NamedTuple):
    """What one step leaves: mean reward on the open prompts, and rollouts per prompt of either kind."""

    rewards_K: list[float]
    rollouts_open: float
    rollouts_other: float


def answer_sheet(generator: torch.Generator) -> Tensor:
    """What each answer earns, [G, A, K].

    Of an open prompt, answer 0 is the one to find: right, well-formed and fairly short. Answer 1 is right but nothing
    else, the others are wrong. Of the other prompts, all answers are alike but for their length.
    """
    short_GA = torch.rand(PROMPTS, ANSWERS, generator=generator)
    sheet_GAK = torch.full((PROMPTS, ANSWERS, len(REWARDS)), 0.5)
    sheet_GAK[OPEN:, :, 2] += 0.4 * short_GA[OPEN:]
    sheet_GAK[:OPEN, :, 0] = torch.tensor([1.0, 1, 0, 0, 0, 0])
    sheet_GAK[:OPEN, :, 1] = torch.tensor([1.0, 0, 1, 0, 1, 0])
    sheet_GAK[:OPEN, :, 2] = short_GA[:OPEN]
    sheet_GAK[:OPEN, :2, 2] = torch.tensor([0.8, 0.1])
    return sheet_GAK


def train(steps: int = 40, seed: int = 0) -> list[Step]:
    generator = torch.Generator().manual_seed(seed)
    sheet_GAK = answer_sheet(generator)
    logits_GA = torch.zeros(PROMPTS, ANSWERS)
    ids = [prompt_id(f"question {g}") for g in range(PROMPTS)]  # by content, so that a reordered data set keeps them
    history = PromptHistory(REWARDS, decay=0.8)
    log = []
    for step in range(1, steps + 1):
        # Budget: more rollouts for prompts whose rewards vary. Only earlier steps count: if this step's rollouts
        # decided on their own number, the gradient would be biased.
        stats = history.stats(ids, signal="total_variance", predictor="decayed")
        n_G = torch.as_tensor(allocate("neyman", stats, total=ROLLOUTS, low=LOW, high=HIGH))

        # Rollouts: a prompt's row is repeated as often as the budget says. From here on rows are joined by prompt_N.
        prompt_N = torch.arange(PROMPTS).repeat_interleave(n_G)
        policy_NA = logits_GA.softmax(dim=1)[prompt_N]
        answer_N = torch.multinomial(policy_NA, 1, generator=generator).squeeze(1)

        # Rewards: several numbers a rollout, kept apart.
        rewards_NK = sheet_GAK[prompt_N, answer_N]

        # Advantages: each reward normalized within its prompt's group, then weighed, summed, normalized over the batch.
        settings = {"estimator": "gdpo", "names": REWARDS, "weights": {"correct": 2.0, "format": 1.0, "short": 0.5}}
        advantages_N = compute_advantages(rewards_NK, prompt_N, settings).advantages_N

        # Update: REINFORCE. The gradient of log softmax is one-hot minus policy. Each rollout weighs 1/n of its prompt,
        # so that the objective stays the mean over prompts, however the budget was divided.
        score_NA = torch.nn.functional.one_hot(answer_N, ANSWERS) - policy_NA
        gradient_GA = torch.zeros_like(logits_GA).index_add(0, prompt_N, advantages_N[:, None] * score_NA)
        logits_GA = logits_GA + LEARNING_RATE * gradient_GA / n_G[:, None]

        # History: what the next step's budget knows.
        history.observe([ids[g] for g in prompt_N.tolist()], rewards_NK, step=step)

        means_K = rewards_NK[prompt_N < OPEN].mean(dim=0).tolist()
        log.append(Step(means_K, float(n_G[:OPEN].double().mean()), float(n_G[OPEN:].double().mean())))
    return log


def main() -> None:
    print("step  " + "  ".join(f"{name:>8}" for name in REWARDS) + "   rollouts per open prompt, per other prompt")
    for number, step in enumerate(train(), start=1):
        if number <= 4 or number % 4 == 0:
            means = "  ".join(f"{mean:8.2f}" for mean in step.rewards_K)
            print(f"{number:4}  {means}   {step.rollouts_open:24.1f}  {step.rollouts_other:16.1f}")


if __name__ == "__main__":
    main()
