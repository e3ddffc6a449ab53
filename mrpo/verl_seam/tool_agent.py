"""verl's agent with tools, whose tools run in processes of their own, and which keeps what was said and called.

One serves all rollouts of a worker, since a rollout's state is in verl's ``AgentData``. What it keeps is in the
rollout's ``extra_fields``: the messages after the prompt, the calls with what came of them, and whether it ended for
lack of room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import AgentData, AgentState, ToolAgentLoop
from verl.experimental.agent_loop.tool_parser import FunctionCall
from verl.tools.function_tool import FunctionTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from mrpo.rewards.wire import MESSAGES, OUT_OF_ROOM, TOOL_CALLS
from mrpo.tools.pool import Answer, ToolPool
from mrpo.tools.schema import Tool, schema_of
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.turns import of_turn, without_ends


class Schema(OpenAIFunctionToolSchema):
    """verl's, which keeps of a parameter no more than its type; chat templates are given the whole."""

    whole: dict[str, Any]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.whole


class PooledTool(FunctionTool):
    """A tool of verl's kind, for its own agent loop and for others, computed by a ``ToolPool``."""

    def __init__(self, tool: Tool, pool: ToolPool):
        whole = schema_of(tool)
        super().__init__(tool.name, tool.function, Schema(**whole, whole=whole), is_async=True)
        self.pool = pool

    async def call(self, parameters: dict[str, Any]) -> str:
        """What the tool says to these arguments; of a failed call, the error."""
        return (await self.answer(json.dumps(parameters), {})).text

    async def answer(self, arguments: str, of_row: Mapping[str, Any]) -> Answer:
        return await self.pool.call(self.name, arguments, of_row, [self.name])


class ToolAgent(ToolAgentLoop):
    """verl's loop.

    Args:
        tools: ``PooledTool``s.
        decoder: of the model's responses.
        given: verl's.
    """

    def __init__(self, *args: Any, tools: list[PooledTool], pool: ToolPool, decoder: ResponseDecoder, **given: Any):
        super().__init__(*args, tools=ToolListWrap(tools), **given)
        self.pool, self.decoder = pool, decoder
        self.ends = [decoder.tokenizer.decode([token]) for token in sorted(decoder.ends)]

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **prompt: Any) -> AgentLoopOutput:
        prompt["tools_kwargs"] = prompt.get("tools_kwargs") or {}
        output: AgentLoopOutput = await super().run(sampling_params, priority, **prompt)
        output.extra_fields.setdefault(TOOL_CALLS, [])
        return output

    async def _handle_generating_state(
        self, agent_data: AgentData, sampling_params: dict[str, Any], ignore_termination: bool = False
    ) -> AgentState:
        known = len(agent_data.messages)
        sampling_params = of_turn(sampling_params, agent_data.assistant_turns)
        state = await super()._handle_generating_state(agent_data, sampling_params, ignore_termination)
        if len(agent_data.messages) > known:
            message = agent_data.messages[-1]
            message = {**message, "content": without_ends(message["content"], self.ends)}
        else:  # the last turn, in which verl looks for no calls
            message = {"role": "assistant", "content": self.decoder(agent_data.response_ids)}
        agent_data.extra_fields.setdefault(MESSAGES, []).append(message)
        return state

    async def _handle_processing_tools_state(self, agent_data: AgentData) -> AgentState:
        known = len(agent_data.messages)
        state: AgentState = await super()._handle_processing_tools_state(agent_data)
        if state == AgentState.TERMINATED:  # what the tools say has no room: the model never sees it
            agent_data.extra_fields[OUT_OF_ROOM] = True
        else:
            agent_data.extra_fields[MESSAGES] += agent_data.messages[known:]
        return state

    async def _call_tool(
        self, tool_call: FunctionCall, tools_kwargs: dict[str, Any], agent_data: AgentData
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        of_row = {name: value for name, value in (tools_kwargs.get(tool_call.name) or {}).items() if value is not None}
        offered = list(getattr(agent_data, "_active_tools", self.tools))
        text, failure = await self.pool.call(tool_call.name, tool_call.arguments, of_row, offered)
        call = {"name": tool_call.name, "arguments": tool_call.arguments, "result": text, "failure": failure}
        agent_data.extra_fields.setdefault(TOOL_CALLS, []).append(call)
        return ToolResponse(text=text), 0.0, {}
