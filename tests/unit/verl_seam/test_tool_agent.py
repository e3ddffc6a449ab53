"""verl's agent with tools on a real tokenizer and template: what is said, called, masked out and told to rewards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.workers.rollout.replica import TokenOutput

from mrpo.config.agent import AgentConfig
from mrpo.config.recipes import find_recipe
from mrpo.data.render import render_chat
from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.rewards.function import find
from mrpo.rewards.wire import MESSAGES, OUT_OF_ROOM, TOOL_CALLS
from mrpo.tools.pool import ToolPool
from mrpo.tools.schema import load_tools, schema_of
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.tool_agent import PooledTool, ToolAgent
from mrpo.verl_seam.turns import model_turns, of_turn

pytestmark = pytest.mark.unit

RECIPE = find_recipe("calculator").folder
TEMPLATE = find("prepare.py:draw_question", RECIPE).__globals__["TEMPLATE"]
CALL = '<tool_call>{"name": "calculator", "arguments": {"expression": "%s"}}</tool_call>'
PROMPT = [{"role": "user", "content": "12*34"}]


class ScriptedEngine:
    """Answers with given texts in turn, as an engine would whose model wrote them."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]):
        self.tokenizer, self.texts, self.asked = tokenizer, list(texts), list[dict[str, Any]]()

    async def generate(self, request_id: str, **request: Any) -> TokenOutput:
        self.asked.append(request)
        ids = [*self.tokenizer.encode(self.texts.pop(0)), self.tokenizer.eos_token_id]
        return TokenOutput(token_ids=ids, log_probs=[-1.0] * len(ids), extra_fields={"max_global_steps": 1})


def rollout(texts: Sequence[str], room: int = 400, max_turns: int = 4) -> tuple[Any, ScriptedEngine, Any]:
    """What comes of a rollout whose model writes these texts: the output, the engine, the tokenizer."""
    tokenizer = byte_tokenizer([])
    tokenizer.chat_template = TEMPLATE
    agent = AgentConfig(loop="tool_agent", tools="tools.py:calculator", max_turns=max_turns)
    multi_turn: dict[str, Any] = {"max_user_turns": None, "max_assistant_turns": max_turns, "max_parallel_calls": 1}
    multi_turn |= {"max_tool_response_length": 256, "tool_response_truncate_side": "middle", "format": "hermes"}
    config = {"prompt_length": 64, "response_length": room, "multi_turn": multi_turn, "full_determinism": False}
    engine = ScriptedEngine(tokenizer, texts)

    async def run() -> Any:
        pool = ToolPool(agent, RECIPE)
        loop = ToolAgent(
            trainer_config=DictConfigWrap(OmegaConf.create({"actor_rollout_ref": {"rollout": config}})),
            server_manager=engine,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=SimpleNamespace,
            data_config=DictConfigWrap(OmegaConf.create({})),
            hf_model_type="qwen2",
            tools=[PooledTool(tool, pool) for tool in load_tools(agent.tools, RECIPE).values()],
            pool=pool,
            decoder=ResponseDecoder(tokenizer),
        )
        try:
            return await loop.run({"seed": 5}, raw_prompt=PROMPT, tools_kwargs=None)
        finally:
            await pool.close()

    return asyncio.run(run()), engine, tokenizer


def test_the_models_turns_are_in_the_loss_and_the_tools_text_is_not() -> None:
    texts = [CALL % "12*34", CALL % "12/0", "<answer>408</answer>"]
    output, engine, tokenizer = rollout(texts)
    turns = model_turns(output.response_ids, output.response_mask)
    assert [tokenizer.decode(turn) for turn in turns] == [f"{text}<|im_end|>" for text in texts]
    assert len(output.response_logprobs) == len(output.response_ids) == len(output.response_mask)
    told = "Error: ValueError: only whole numbers and + - * are known, not 12 / 0"
    schemas = [schema_of(tool) for tool in load_tools(["tools.py:calculator"], RECIPE).values()]
    whole = render_chat(tokenizer, PROMPT, {}, schemas) + texts[0]
    whole += f"<|im_end|>\n<|im_start|>408<|im_end|>\n<|im_start|>{texts[1]}"
    whole += f"<|im_end|>\n<|im_start|>{told}<|im_end|>\n<|im_start|>{texts[2]}<|im_end|>"
    assert tokenizer.decode(output.prompt_ids + output.response_ids) == whole
    assert [request["sampling_params"] for request in engine.asked] == [of_turn({"seed": 5}, n) for n in range(3)]
    calls = output.extra_fields[TOOL_CALLS]
    assert [(call["result"], call["failure"]) for call in calls] == [("408", None), (told, "exception")]
    assert [json.loads(call["arguments"]) for call in calls] == [{"expression": "12*34"}, {"expression": "12/0"}]
    messages = output.extra_fields[MESSAGES]
    assert [message["role"] for message in messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [message["content"] for message in messages] == ["", "408", "", told, "<answer>408</answer>"]
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == {"expression": "12*34"}


def test_a_call_of_the_last_turn_is_not_answered() -> None:
    output, engine, tokenizer = rollout([CALL % "1+1", CALL % "2+2"], max_turns=2)
    assert not engine.texts
    assert [call["result"] for call in output.extra_fields[TOOL_CALLS]] == ["2"]
    assert output.extra_fields[MESSAGES][-1] == {"role": "assistant", "content": CALL % "2+2"}
    last = model_turns(output.response_ids, output.response_mask)[-1]
    assert tokenizer.decode(last) == f"{CALL % '2+2'}<|im_end|>"


def test_without_room_for_what_the_tool_says_the_rollout_is_truncated() -> None:
    output, _, _ = rollout([CALL % "12*34"], room=85)
    assert output.extra_fields[OUT_OF_ROOM]
    assert set(output.response_mask) == {1}
    assert [message["role"] for message in output.extra_fields[MESSAGES]] == ["assistant"]
    assert output.extra_fields[TOOL_CALLS][0]["result"] == "408"  # it was worked out, and nobody has seen it


def test_a_rollout_without_a_call_has_called_nothing() -> None:
    output, _, _ = rollout(["<answer>408</answer>"])
    assert output.extra_fields[TOOL_CALLS] == []
    assert output.response_mask == [1] * len(output.response_ids)
