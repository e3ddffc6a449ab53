"""Who holds a rollout's conversation with the engine: one turn, verl's agent with tools, or a loop of one's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError, unknown_name

SINGLE_TURN, TOOL_AGENT = "single_turn_agent", "tool_agent"
"""verl's names for rollouts of one turn, and for its agent with tools."""
MAX_TOOL_TEXT = 32_000
"""Characters that a tool's text may have at most."""


def _list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class AgentConfig(StrictModel):
    """The agent loop. A row of the data may name another for itself, in its column ``agent_name``."""

    loop: str = SINGLE_TURN
    """``single_turn_agent``, ``tool_agent`` (the model may call ``tools``, and sees what they say), or a class of your
    own as ``FILE.py:CLASS`` (relative to the recipe) or ``package.module:CLASS``, which inherits verl's
    ``AgentLoopBase``."""
    loops: dict[str, str] = Field(default_factory=dict)
    """Further classes of your own, by the name that rows give in ``agent_name``."""
    tools: Annotated[list[str], BeforeValidator(_list)] = Field(default_factory=list)
    """The tools: typed Python functions with a docstring, as ``FILE.py:NAME`` or ``package.module:NAME``. The model is
    told of their parameters; those that are keyword-only come from the row, ``extra_info.tools_kwargs``."""
    max_turns: int = Field(default=4, ge=1)
    """``tool_agent``: turns of the model. In the last one a call isn't answered any more."""
    max_parallel_calls: int = Field(default=1, ge=1)
    """``tool_agent``: calls of one turn that are answered, the first ones."""
    format: Literal["hermes", "qwen3_coder", "gpt-oss", "glm", "seed", "minimax", "kimi", "deepseek_v4", "gemma4"] = (
        "hermes"
    )
    """``tool_agent``: how the model writes a call."""
    tool_timeout: float = Field(default=10.0, gt=0)
    """Seconds that a call may take. A late one's process is killed, and the model is told."""
    tool_processes: int = Field(default=1, ge=1)
    """Processes that compute calls, for each of ``rollout.agent_workers``."""
    tool_memory: float | None = Field(default=None, gt=0)
    """GiB that one of those processes may allocate. Default: no limit."""
    max_tool_response_length: int = Field(default=256, ge=1, le=MAX_TOOL_TEXT)
    """Characters of a tool's text that the model is shown; of a longer one its middle is left out."""

    @property
    def names(self) -> list[str]:
        """What a row's ``agent_name`` may be."""
        return list(dict.fromkeys((SINGLE_TURN, TOOL_AGENT, self.loop, *self.loops)))

    @property
    def own(self) -> dict[str, str]:
        """Where the classes that aren't verl's are defined, by name."""
        return {**({self.loop: self.loop} if ":" in self.loop else {}), **self.loops}

    @model_validator(mode="after")
    def _loop_is_known(self) -> AgentConfig:
        if taken := sorted({SINGLE_TURN, TOOL_AGENT} & {*self.loops}):
            raise ConfigError(f"rollout.agent.loops: given the name {taken[0]}, which is verl's. Allowed: another.")
        if ":" not in self.loop and self.loop not in self.names[:2] and self.loop not in self.loops:
            raise unknown_name("rollout.agent.loop", self.loop, [*self.names[:2], *self.loops], noun="agent loop")
        for field, given in (("loops", self.loops.values()), ("tools", self.tools)):
            if wrong := next((one for one in given if ":" not in one), None):
                raise ConfigError(
                    f"rollout.agent.{field}: given {wrong!r}, allowed: FILE.py:NAME or package.module:NAME."
                )
        return self

    @model_validator(mode="after")
    def _tools_have_a_loop(self) -> AgentConfig:
        if self.loop == TOOL_AGENT and not self.tools:
            raise ConfigError(
                "rollout.agent.tools: given none with loop=tool_agent, which would be one turn without tools. Allowed: "
                "tools (FILE.py:NAME), or loop=single_turn_agent."
            )
        return self
