"""The processes that compute a model's calls of tools: one that hangs is killed, one that dies is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.config.agent import AgentConfig
from mrpo.rewards.connection import Task
from mrpo.rewards.pool import Pool
from mrpo.tools.call import ARGUMENTS


class Answer(NamedTuple):
    """What came of a call."""

    text: str
    """What the model reads."""
    failure: str | None = None
    """Why it has no result: ``unknown tool``, ``arguments``, ``exception``, ``timeout``, ``crash``."""


class ToolPool:
    """Computes calls of the agent's tools. Lives in one event loop, that of the first call.

    Args:
        agent: names the tools, and bounds a call.
        folder: what a ``FILE.py`` is relative to: the recipe's.
        log: the file that what tools print is added to. Default: standard error.
    """

    def __init__(self, agent: AgentConfig, folder: Path, log: Path | None = None):
        self.timeout = agent.tool_timeout
        options: dict[str, Any] = {
            "tools": agent.tools,
            "folder": str(folder.resolve()),
            "longest": agent.max_tool_response_length,
        }
        task = Task(
            function="mrpo.tools.call:Call",
            folder=options["folder"],
            options=options,
            scores=[("score", None)],
            scope="rollout",
            scheduled=[{}],
            timeout=agent.tool_timeout,
            memory=agent.tool_memory,
            pythonpath=os.environ.get("PYTHONPATH"),
        )
        self.pool = Pool(task, agent.tool_processes, sys.executable, log)

    def require_loadable(self) -> None:
        """Load the tools once, in a process as those of calls are. Raises ConfigError with the error."""

        async def load() -> None:
            trial = Pool(self.pool.task, 1, self.pool.python, self.pool.log)
            try:
                await trial.start()
            finally:
                await trial.close()

        with ThreadPoolExecutor(1) as thread:  # an actor's constructor may run inside its event loop
            thread.submit(asyncio.run, load()).result()

    async def call(self, name: str, arguments: str, of_row: Mapping[str, Any], offered: Collection[str]) -> Answer:
        """What the tool says. Never raises: what goes wrong is in the answer, for the model to read.

        Args:
            name: of the tool.
            arguments: the model's, as JSON.
            of_row: the row's, for this tool.
            offered: the names of the tools that may be called.
        """
        if name not in offered:
            return Answer(f"Error: there is no tool {name!r}. Tools: {', '.join(offered)}", "unknown tool")
        try:
            given = json.loads(arguments)
        except (ValueError, TypeError, RecursionError) as error:
            return Answer(f"Error: the arguments of {name} are no JSON: {error}", ARGUMENTS)
        if not isinstance(given, dict):
            return Answer(f"Error: the arguments of {name} are no JSON object", ARGUMENTS)
        payload = pickle.dumps((name, given, dict(of_row), {}), pickle.HIGHEST_PROTOCOL)
        outcome = (await self.pool.submit(payload))[0]
        if outcome.failure is None:
            return Answer("".join(json.loads(outcome.details or "{}").values()))
        cause, _, text = outcome.failure.partition(": ")
        if cause == "timeout":
            text = f"{name} took longer than {self.timeout:g} s"
        if cause == "crash":
            text = f"{name} has ended its process"
        return Answer(f"Error: {text}", cause)

    async def close(self) -> None:
        """End the processes."""
        await self.pool.close()
