"""What differs in another verl is found where a package relies on it, and nowhere else. verl's own files are edited."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from mrpo.verl_seam import upgrade
from mrpo.verl_seam.upgrade import BODY, GONE, NEW, NOT_FOUND, SAME, SIGNATURE, Finding, compare, difference, main

pytestmark = pytest.mark.unit

PLUGIN = """
from verl.trainer.ppo.v1 import agent_loop_tq, trainer_base
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.device import get_device_name


class Mixin:
    def _setup(self):
        super()._setup()
        return self._start_profiling()

    def note(self):
        pass


class Colocated(Mixin, PPOTrainerSync):
    def _update_actor(self, batch, metrics):
        return super()._update_actor(batch, metrics)


class Separate(Mixin, PPOTrainerSeparateAsync):
    pass


class Worker(agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    async def _run_prompt(self, *args):
        await super()._run_prompt(*args)


class Waiter:
    def __init__(self, buffer: ReplayBuffer):
        self.seconds, self.buffer = 1, buffer

    def start(self, of_unknown_type):
        self.buffer._wait_for_next_poll = lambda *_: 0.0
        of_unknown_type._select_prompt_uids()
        return self.buffer.sample(1, "train", 2)


trainer_base.RewardLoopManager = Worker
"""


@pytest.fixture(scope="module")
def installed() -> Path:
    spec = importlib.util.find_spec("verl")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture
def other(tmp_path: Path, installed: Path) -> Path:
    """A copy of verl's source to be edited."""

    def anything_else(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if not (name.endswith(".py") or Path(folder, name).is_dir())]

    shutil.copytree(installed, tmp_path / "other" / "verl", ignore=anything_else)
    return tmp_path / "other" / "verl"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "seam.py").write_text(PLUGIN)
    return tmp_path / "plugin"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def differing(findings: list[Finding]) -> dict[str, str]:
    return {".".join(one.name.split(".")[-2:]): one.status for one in findings if one.status != SAME}


def test_all_ways_to_rely_on_verl_are_found(plugin: Path, installed: Path) -> None:
    findings = compare(plugin, installed, installed)
    assert {(one.kind, ".".join(one.name.split(".")[-2:])) for one in findings} == {
        ("overridden", "PPOTrainer._setup"),
        ("overridden", "PPOTrainerSeparateAsync._setup"),
        ("overridden", "PPOTrainer._update_actor"),
        ("overridden", "AgentLoopWorkerTQ._run_prompt"),
        ("patched", "ReplayBuffer._wait_for_next_poll"),
        ("patched", "reward_loop.RewardLoopManager"),
        ("used", "PPOTrainer._start_profiling"),
        ("used", "ReplayBuffer._select_prompt_uids"),
        ("used", "agent_loop_tq.AgentLoopWorkerTQ"),
        ("imported", "v1.agent_loop_tq"),
        ("imported", "v1.trainer_base"),
        ("imported", "replay_buffer.ReplayBuffer"),
        ("imported", "trainer_separate_async.PPOTrainerSeparateAsync"),
        ("imported", "trainer_sync.PPOTrainerSync"),
        ("imported", "device.get_device_name"),
    }
    # A method counts once, however many of verl's classes have it.
    assert upgrade.totals(findings).startswith(
        "4 methods overridden or wrapped, 4 private and 0 public; 0 constructors"
    )


def test_each_change_is_reported_as_what_it_is(plugin: Path, installed: Path, other: Path) -> None:
    v1 = other / "trainer/ppo/v1"
    edit(v1 / "trainer_base.py", "    def _setup(self):\n", "    def _setup(self):\n        self.ready = True\n")
    edit(
        v1 / "trainer_base.py",
        "def _update_actor(self, batch: KVBatchMeta,",
        "def _update_actor(self, rows: KVBatchMeta,",
    )
    edit(v1 / "agent_loop_tq.py", "    async def _run_prompt(", "    async def _run_one_prompt(")
    edit(
        v1 / "replay_buffer.py",
        "def _wait_for_next_poll(self, partition_id: str, last",
        "def _wait_for_next_poll(self, last",
    )
    edit(other / "utils/device.py", "def get_device_name(", "def device_name(")
    # Of no concern: a comment, a docstring, a method that nothing here relies on.
    edit(v1 / "replay_buffer.py", "    def _select_prompt_uids(", "    # which prompts\n    def _select_prompt_uids(")
    edit(v1 / "replay_buffer.py", "Sample a batch using synchronous rollout semantics.", "Sample a batch.")
    edit(v1 / "trainer_base.py", "    def _balance_batch(", "    def _balance_rows(")
    findings = compare(plugin, installed, other)
    assert differing(findings) == {
        "PPOTrainer._setup": BODY,
        "PPOTrainer._update_actor": SIGNATURE,
        "AgentLoopWorkerTQ._run_prompt": GONE,
        "ReplayBuffer._wait_for_next_poll": SIGNATURE,
        "device.get_device_name": GONE,
    }
    assert [one.status for one in findings[:6]] == [GONE, GONE, SIGNATURE, SIGNATURE, BODY, SAME]
    [setup] = [one for one in findings if one.status == BODY]
    assert [line for line in difference(setup) if line.startswith("+ ")] == ["+        self.ready = True"]


def test_a_method_that_moves_to_a_base_class_is_still_found(plugin: Path, installed: Path, other: Path) -> None:
    edit(other / "trainer/ppo/v1/trainer_separate_async.py", "    def _setup(self):", "    def _set_up(self):")
    assert differing(compare(plugin, installed, other)) == {"PPOTrainerSeparateAsync._setup": BODY}


def test_a_name_of_ours_that_verl_takes_is_reported(plugin: Path, installed: Path, other: Path) -> None:
    edit(
        other / "trainer/ppo/v1/trainer_base.py",
        "    def _setup(self):\n",
        "    def note(self): ...\n\n    def _setup(self):\n",
    )
    assert differing(compare(plugin, installed, other)) == {"PPOTrainer.note": NEW}


def test_an_import_that_no_verl_has_is_reported(plugin: Path, installed: Path) -> None:
    (plugin / "wrong.py").write_text("from verl.trainer.ppo.v1 import nothing_like_it\n")
    assert differing(compare(plugin, installed, installed)) == {"v1.nothing_like_it": NOT_FOUND}


def test_this_package_and_the_same_verl_differ_in_nothing(other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(other.parent)]) == 0
    assert "overridden: none of" in capsys.readouterr().out


def test_a_change_ends_with_1_and_is_shown(plugin: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(other / "trainer/ppo/v1/trainer_base.py", "def _start_profiling(self)", "def _start_profiling(self, how)")
    assert main([str(other.parent), "--package", str(plugin), "--diff"]) == 1
    shown = capsys.readouterr().out
    assert "PPOTrainer._start_profiling (private)" in shown
    assert "\n- def _start_profiling(self) -> None\n+ def _start_profiling(self, how) -> None\n" in shown
    assert "\n+    def _start_profiling(self, how)" in shown
    assert "used: 1 signature changed of 3" in shown


def test_a_folder_without_verl_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"mrpo: OTHER: given '{tmp_path}', allowed: a folder that holds verl (verl/__init__.py)\n"
    )
