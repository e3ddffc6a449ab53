"""An agent loop that isn't there, has no tools or can't run is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.config.agent import AgentConfig
from mrpo.config.base import config_errors
from mrpo.config.check import check_agent
from mrpo.config.checked_run import CheckedRun
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

FILE = '''
from elsewhere import Imported
class Own(AgentLoopBase):
    async def run(self): ...
class Heir(Own): ...
class Idle(AgentLoopBase): ...
def tool(x: int):
    """Do."""
def bare(x: int): ...
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(FILE)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loop": "tool_agent"}, "rollout.agent.tools: given none with loop=tool_agent"),
        ({"loop": "tol_agent"}, "rollout.agent.loop: unknown agent loop 'tol_agent'. Did you mean 'tool_agent'"),
        ({"loop": "judge"}, "unknown agent loop 'judge'. Allowed: single_turn_agent, tool_agent"),
        ({"loops": {"tool_agent": "own.py:Own"}}, "rollout.agent.loops: given the name tool_agent, which is verl's"),
        ({"loop": "tool_agent", "tools": "tool"}, "rollout.agent.tools: given 'tool', allowed: FILE.py:NAME"),
        ({"loop": "tool_agent", "tools": "own.py:toll"}, r"tools\[0\] .*unknown name 'toll'. Did you mean 'tool'"),
        ({"loop": "tool_agent", "tools": "own.py:Own"}, r"tools\[0\]: given the class Own, allowed: a function"),
        ({"loop": "tool_agent", "tools": "own.py:bare"}, r"tools\[0\]: bare has no docstring"),
        ({"loop": "none.py:Own"}, "rollout.agent.loop: no such file"),
        ({"loop": "own.py:tool"}, "rollout.agent.loop: given 'own.py:tool', allowed: a class with a method run"),
        ({"loops": {"a": "own.py:Idle"}}, "rollout.agent.loops.a: given 'own.py:Idle', allowed: a class with a"),
    ],
)
def test_what_cannot_run_is_refused(folder: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message), config_errors():
        check_agent(AgentConfig(**given), folder)


@pytest.mark.parametrize("loop", ["own.py:Own", "own.py:Heir", "own.py:Imported"])
def test_a_class_that_has_or_inherits_run_may_be_one(folder: Path, loop: str) -> None:
    agent = AgentConfig(loop=loop, loops={"other": "own.py:Own"}, tools=["own.py:tool"])
    check_agent(agent, folder)
    assert agent.names == ["single_turn_agent", "tool_agent", loop, "other"]
    assert agent.own == {loop: loop, "other": "own.py:Own"}


def test_the_recipes_agent_reaches_verl_and_verls_own_settings_of_it_are_refused(tmp_path: Path) -> None:
    run = CheckedRun.load(["recipe=calculator", "rollout.agent.max_turns=3"])
    rollout = run.verl_config(tmp_path).actor_rollout_ref.rollout
    assert (rollout.agent.default_agent_loop, rollout.multi_turn.max_assistant_turns) == ("tool_agent", 3)
    theirs = {"actor_rollout_ref": {"rollout": {"multi_turn": {"function_tool_path": "tools.py"}}}}
    changed = run.config.model_copy(update={"verl": theirs})
    with pytest.raises(ConfigError, match=r"function_tool_path: given .*Set rollout.agent.tools instead"):
        to_verl(changed, run.recipe.folder, tmp_path, "cpu")
