"""Rollouts of several turns on the real stack: a model that calls a tool, one turn, and a loop of one's own, mixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from mrpo.config.recipes import find_recipe
from mrpo.prepare.cli import Options
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.function import find

from .conftest import AGREEMENT, Once, mrpo

pytestmark = pytest.mark.e2e

RECIPE = find_recipe("calculator").folder
TWICE = '''
"""Asks, and asks once more in a conversation of its own that quotes the first answer: two outputs of a rollout."""
from uuid import uuid4
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

class Twice(AgentLoopBase):
    async def run(self, sampling_params, raw_prompt, **row):
        outputs, prompt = [], await self.ct_build_initial_tokens(list(raw_prompt))
        for _ in range(2):
            said = await self.server_manager.generate(
                request_id=uuid4().hex, prompt_ids=prompt, sampling_params={**sampling_params, "max_tokens": 12}
            )
            outputs.append(AgentLoopOutput(
                prompt_ids=prompt, response_ids=said.token_ids, response_mask=[1] * len(said.token_ids),
                response_logprobs=said.log_probs, num_turns=2, metrics=AgentLoopMetrics(),
                extra_fields=dict(said.extra_fields),
            ))
            prompt = prompt + said.token_ids[-4:]
        return outputs
'''
NAMES = ("tool_agent", "single_turn_agent", "twice")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def prepared(once: Once) -> Path:
    """The recipe's data and a model that has learned it for seconds, and rows that name each of three agents."""

    def make(folder: Path) -> None:
        names: dict[str, Any] = find("prepare.py:main", RECIPE).__globals__
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"CLEAN_STEPS": 60, "SLOPPY_STEPS": 20, "BATCH": 16}.items():
                patch.setitem(names, name, value)
            names["main"](Options(out=folder, seed=0, source=None))
        rows = pd.read_parquet(folder / "train.parquet").head(12)
        rows["agent_name"] = [NAMES[number % 3] for number in range(len(rows))]
        rows.to_parquet(folder / "train.parquet")
        (folder / "twice.py").write_text(TWICE)

    return once("agents-data", make)


@pytest.fixture(scope="module")
def run(prepared: Path, once: Once) -> RunFolder:
    def make(folder: Path) -> None:
        done = mrpo(
            "train",
            "recipe=calculator",
            "prepare=null",
            f"run_dir={folder / 'run'}",
            f"model.path={prepared / 'model'}",
            f"data.train_files=[{prepared / 'train.parquet'}]",
            f"data.val_files=[{prepared / 'test.parquet'}]",
            "data.train_batch_size=12",
            "budget.rollouts_per_prompt=4",
            f"rollout.agent.loops.twice={prepared / 'twice.py'}:Twice",
            "trainer.total_training_steps=2",
            "trainer.val_before_train=false",
            "trainer.test_freq=2",
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    return RunFolder(once("agents", make) / "run")


def rows_of(run: RunFolder, prepared: Path) -> list[tuple[dict[str, Any], dict[str, Rows]]]:
    """Each step's metrics, and its rollouts by agent."""
    data = pd.read_parquet(prepared / "train.parquet")
    agents = dict(zip((chat[0]["content"] for chat in data["prompt"]), data["agent_name"], strict=True))
    found = []
    for record in run.metrics():
        by_agent: dict[str, Rows] = {name: [] for name in NAMES}
        for row in run.read_rollouts(record["step"]):
            asked = next(line for line in row["prompt"].splitlines() if line in agents)
            by_agent[agents[asked]].append(row)
        found.append((record, by_agent))
    return found


def test_engine_and_trainer_agree_on_every_token_of_every_turn(run: RunFolder) -> None:
    for record in run.metrics():
        assert record["rollout/probs_diff/max"] < AGREEMENT
        assert record["train/grad_norm"] > 0


def test_a_response_is_the_last_turn_and_tools_said_what_the_tool_says(run: RunFolder, prepared: Path) -> None:
    calculator: Callable[..., str] = find("tools.py:calculator", RECIPE)
    answered = 0
    for _, rows in rows_of(run, prepared):
        for row in rows["tool_agent"]:
            turns = [message for message in row["messages"] if message["role"] == "assistant"]
            told = [message["content"] for message in row["messages"] if message["role"] == "tool"]
            assert row["messages"][-1] is turns[-1]
            assert row["response"].endswith(turns[-1]["content"])
            for turn, text in zip(turns, told, strict=False):
                (call,) = turn["tool_calls"]
                if not text.startswith("Error: "):
                    assert calculator(**call["function"]["arguments"]) == text
                    answered += 1
        assert not any("messages" in row for row in rows["single_turn_agent"])
    assert answered > 5


def test_calls_are_counted_over_the_rollouts_whose_agent_has_tools(run: RunFolder, prepared: Path) -> None:
    for record, rows in rows_of(run, prepared):
        assert len(rows["tool_agent"]) == 16
        answered = [sum(message["role"] == "tool" for message in row["messages"]) for row in rows["tool_agent"]]
        assert record["rollout/tool_calls/mean"] >= np.mean(answered) > 0
        assert record["rollout/tool_calls/max"] >= max(answered)


def test_lengths_are_the_models_own_tokens(run: RunFolder, prepared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prepared / "model")
    compared = 0
    for _, rows in rows_of(run, prepared):
        for row in rows["tool_agent"]:
            said = json.dumps(row["messages"], ensure_ascii=False)
            if "�" not in said and len(row["messages"]) == 1 and not row["truncated"]:
                assert row["tokens"] == len(tokenizer.encode(row["response"])) + 1
                compared += 1
    assert compared


def test_all_outputs_of_a_rollout_learn_by_its_advantage(run: RunFolder, prepared: Path) -> None:
    """verl's own statistics of the tokens in the loss, two outputs of each rollout of the last agent among them."""
    for record, by_agent in rows_of(run, prepared):
        rows = [row for agent in NAMES for row in by_agent[agent]]
        assert len(rows) == 48
        advantages, tokens = (np.array([row[key] for row in rows]) for key in ("advantage", "tokens"))
        assert record["advantage/per_token/mean"] == pytest.approx((advantages * tokens).sum() / tokens.sum(), abs=1e-5)
        assert record["rollout/response_length/max"] <= 96
        assert max(row["tokens"] for row in by_agent["twice"]) > 12


def test_validation_goes_through_the_same_loop(run: RunFolder) -> None:
    rows = [json.loads(line) for line in (run.validation_rollouts / "2.jsonl").read_text().splitlines()]
    assert len(rows) == 64
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
