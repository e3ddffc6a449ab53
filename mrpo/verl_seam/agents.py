"""The agent loops of a run, by the names that rows may give: verl's two, and classes of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, DictConfigWrap, ToolListWrap

from mrpo.config.agent import SINGLE_TURN, TOOL_AGENT
from mrpo.config.controller import ControllerConfig
from mrpo.errors import ConfigError, unknown_name
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.function import find
from mrpo.rewards.scorer import log_file
from mrpo.tools.pool import ToolPool
from mrpo.tools.schema import load_tools
from mrpo.verl_seam.single_turn import SingleTurn
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.tool_agent import PooledTool, ToolAgent
from mrpo.verl_seam.turns import TurnSeeds


class Agents:
    """Makes an agent loop for a rollout. verl's two are made once and serve all of them, since they keep nothing; a
    class of the user's is made anew for each.

    Args:
        ours: what the command handed over.
        worker: verl's agent loop worker, which has what loops are made of.
        decoder: of the model's responses.

    Raises:
        ConfigError: a tool or a class can't be loaded.
    """

    def __init__(self, ours: ControllerConfig, worker: Any, decoder: ResponseDecoder):
        self.worker, self.decoder = worker, decoder
        agent, folder = ours.run.rollout.agent, ours.recipe_folder
        self.names, self.default = agent.names, agent.loop
        self.own = {name: load_loop(given, ours) for name, given in agent.own.items()}
        self.tools: list[PooledTool] = []
        if agent.tools:
            self.pool = ToolPool(agent, folder, log_file(RunFolder(ours.run_dir).tool_logs, ["tools"]))
            self.pool.require_loadable()
            self.tools = [PooledTool(tool, self.pool) for tool in load_tools(agent.tools, folder).values()]
        self.shared: dict[str, AgentLoopBase] = {}

    async def run(self, name: str | None, sampling: dict[str, Any], prompt: dict[str, Any]) -> list[AgentLoopOutput]:
        """A rollout's outputs. ``name``: as the row says it; None: it doesn't.

        Raises:
            ConfigError: there is no loop of this name.
        """
        name = name or self.default
        if name in self.own:
            client = TurnSeeds(self.worker.llm_client, sampling["seed"])
            loop = self._made(self.own[name], client, tools=ToolListWrap(list(self.tools)))
        else:
            loop = self.shared.get(name) or self.shared.setdefault(name, self._of_verl(name))
        output: Any = await loop.run(sampling, **prompt)
        return output if isinstance(output, list) else [output]

    def _of_verl(self, name: str) -> AgentLoopBase:
        client = self.worker.llm_client
        if name == SINGLE_TURN:
            return self._made(SingleTurn, client)
        if name == TOOL_AGENT and self.tools:
            return self._made(ToolAgent, client, tools=self.tools, pool=self.pool, decoder=self.decoder)
        raise unknown_name("agent_name", name, set(self.names) - ({TOOL_AGENT} if not self.tools else set()))

    def _made(self, cls: Callable[..., AgentLoopBase], client: Any, **more: Any) -> AgentLoopBase:
        worker = self.worker
        return cls(
            trainer_config=DictConfigWrap(worker.config),
            server_manager=client,
            tokenizer=worker.tokenizer,
            processor=worker.processor,
            dataset_cls=worker.dataset_cls,
            data_config=DictConfigWrap(worker.config.data),
            hf_model_type=worker.hf_model_type,
            **more,
        )


def load_loop(given: str, ours: ControllerConfig) -> type[AgentLoopBase]:
    """The class that ``given`` names. Raises ConfigError if it is no agent loop."""
    found = find(given, ours.recipe_folder, "agent loop")
    if not (inspect.isclass(found) and issubclass(found, AgentLoopBase)):
        raise ConfigError(f"agent loop {given!r}: allowed: a class that inherits verl's AgentLoopBase.")
    if inspect.isabstract(found):
        raise ConfigError(f"agent loop {given!r}: has no method run.")
    return found
