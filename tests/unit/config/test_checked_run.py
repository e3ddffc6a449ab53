"""A run that is loaded and checked: one way for every command, and where it would compute."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mrpo.config.checked_run import CheckedRun
from mrpo.config.cluster import SlurmCluster, SlurmNodes
from mrpo.config.device import Device, device_here, device_on
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

NO_GPUS = not any(Path("/dev").glob("nvidia[0-9]*"))
CPUS = SlurmCluster().groups
GPUS = SlurmCluster(trainer=SlurmNodes(nodes=2, gpus_per_node=8)).groups


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))


def load(*overrides: str) -> CheckedRun:
    return CheckedRun.load(["recipe=quickstart", *overrides])


def test_it_is_what_the_command_line_says_and_stays_so(tmp_path: Path) -> None:
    run = load("trainer.total_training_steps=7", "trainer.device=cpu")
    assert (run.recipe.name, run.config.trainer.total_training_steps, run.device) == ("quickstart", 7, Device.CPU)
    assert run.prepared.parent == tmp_path / "cache"
    assert run.verl_config(tmp_path / "run").trainer.device == "cpu"
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.device = Device.GPU  # type: ignore[misc]


def test_a_saved_config_with_overrides_is_the_same_run(tmp_path: Path) -> None:
    run = load("trainer.device=cpu", "rewards.short.weight=0.25", "algorithm.estimator=dvao")
    (tmp_path / "config.yaml").write_text(run.config.as_yaml())
    assert CheckedRun.load_saved(tmp_path / "config.yaml", []) == run
    changed = CheckedRun.load_saved(tmp_path / "config.yaml", ["actor.learning_rate=0.5", "~rewards.short"])
    assert changed.config.actor.learning_rate == 0.5
    assert "short" not in changed.config.rewards


def test_what_verl_does_not_know_is_refused_here() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'nnodes'"):
        load("verl.trainer.nodes=1")


def test_files_on_a_clusters_volume_are_not_looked_for() -> None:
    overrides = ["recipe=quickstart", "data.val_files=[/data/b.parquet]", "model.path=/data/model"]
    assert CheckedRun.load(overrides, volume=Path("/data")).config.data.val_files == ["/data/b.parquet"]
    with pytest.raises(ConfigError, match="no such file"):
        CheckedRun.load(overrides)


@pytest.mark.skipif(not NO_GPUS, reason="this machine has GPUs")
def test_the_device_here_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load().config
    asks_for_gpu = config.model_copy(update={"trainer": config.trainer.model_copy(update={"device": "gpu"})})
    assert device_here(config) is Device.CPU
    with pytest.raises(ConfigError, match="given gpu, but this machine has none"):
        device_here(asks_for_gpu)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="given gpu, but this machine has none"):
        device_here(asks_for_gpu)  # it isn't asked to join that
    joins = asks_for_gpu.model_copy(update={"trainer": asks_for_gpu.trainer.model_copy(update={"ray": "join"})})
    assert device_here(joins) is Device.GPU


def test_another_ray_is_joined_only_if_the_run_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved = tmp_path / "config.yaml"
    saved.write_text(load("trainer.ray=join", "trainer.device=cpu").config.as_yaml())
    assert CheckedRun.load_saved(saved, []).config.trainer.ray == "own"  # the cluster of a run that was
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert CheckedRun.load_saved(saved, []).config.trainer.ray == "join"
    assert load().notes == (
        "RAY_ADDRESS is 10.0.0.1:6379, but this run starts a Ray of its own; trainer.ray=join joins that",
    )
    assert not load("trainer.ray=join", "trainer.device=cpu").notes


def test_elsewhere_the_config_decides_before_the_cluster() -> None:
    config = load().config
    for asked, groups, expected in (
        ("auto", GPUS, Device.GPU),
        ("auto", CPUS, Device.CPU),
        ("cpu", GPUS, Device.CPU),
        ("gpu", CPUS, Device.GPU),
        ("gpu", None, Device.GPU),
    ):
        trainer = config.trainer.model_copy(update={"device": asked})
        assert device_on(config.model_copy(update={"trainer": trainer}), groups) is expected
    assert (Device.GPU.verl_name, Device.CPU.verl_name) == ("cuda", "cpu")
