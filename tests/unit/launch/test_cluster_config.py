"""A cluster's file: what is wrong in it is told in one message that names the field and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.errors import ConfigError
from mrpo.launch.cluster_file import load_cluster
from mrpo.launch.template import FOLDER

pytestmark = pytest.mark.unit

KUBERNETES = {"image": "mrpo:0.1", "volume": "mrpo"}


def load(kind: Any, tmp_path: Path, text: str) -> Any:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    return load_cluster(str(file), kind)


def test_the_examples_beside_the_templates_are_valid() -> None:
    assert load_cluster(str(FOLDER / "slurm.yaml"), SlurmCluster).trainer.nodes == 2
    assert load_cluster(str(FOLDER / "kubernetes.yaml"), KubernetesCluster).queue == "kueue"


def test_every_field_has_its_help() -> None:
    for kind in (SlurmCluster, KubernetesCluster):
        assert all(field.description for field in kind.model_fields.values())


def test_without_a_file_a_slurm_job_is_one_whole_node() -> None:
    cluster = load_cluster(None, SlurmCluster)
    assert (cluster.trainer.nodes, cluster.trainer.cpus_per_node, list(cluster.groups)) == (1, None, ["trainer"])


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("tme: 1", "cluster: unknown key 'tme'. Did you mean 'time'?"),
        ("trainer: {node: 2}", "cluster.trainer: unknown key 'node'. Did you mean 'nodes'?"),
        ("time: 24:00:00", 'cluster.time: given 86400, allowed: a quoted time such as "24:00:00"'),
        ("trainer: {nodes: many}", "cluster.trainer.nodes: given 'many'"),
        ("container: pyxis", "cluster.image: not given, but container is pyxis"),
        ("container: docker", "cluster.container: given 'docker'"),
        ("env: {WANDB_API_KEY: abc}", "cluster.env: given a value for WANDB_API_KEY"),
        ("{seeds: [0, 1], rollout: {nodes: 1}}", "cluster.seeds: given with rollout or reward nodes"),
        ("name: my job", "cluster.name: given 'my job'"),
        ("[1, 2]", "holds no mapping"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_mistake_in_a_slurm_cluster_is_named(tmp_path: Path, text: str, tells: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(SlurmCluster, tmp_path, text)
    assert tells in str(caught.value)
    assert "abc" not in str(caught.value)  # a secret isn't repeated


@pytest.mark.parametrize(
    ("change", "tells"),
    [
        ({"image": None}, "cluster.image: is required"),
        ({"volume": None}, "cluster.volume: is required"),
        ({"image": "mrpo"}, "cluster.image: given mrpo, allowed: an image with a tag"),
        ({"image": "mrpo:latest"}, "cluster.image: given mrpo:latest"),
        ({"image": "host:5000/mrpo"}, "cluster.image: given host:5000/mrpo"),
        ({"queue": "kueue"}, "cluster.queue_name: given None with queue kueue"),
        ({"queue_name": "team"}, "cluster.queue_name: given team with queue none"),
        ({"name": "My_Job"}, "cluster.name: given 'My_Job'"),
        ({"name": "a" * 48}, "cluster.name"),
        ({"trainer": {"memory": "much"}}, "cluster.trainer.memory: given 'much'"),
        ({"mount": "data"}, "cluster.mount: given data"),
        ({"env": {"HF_TOKEN": "abc"}}, "a Kubernetes secret named under secrets"),
    ],
)
def test_a_mistake_in_a_kubernetes_cluster_is_named(tmp_path: Path, change: dict[str, Any], tells: str) -> None:
    content = {key: value for key, value in {**KUBERNETES, **change}.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        load(KubernetesCluster, tmp_path, yaml.safe_dump(content))
    assert tells in str(caught.value)


def test_a_digest_pins_an_image_too() -> None:
    KubernetesCluster(image=f"mrpo@sha256:{'0' * 64}", volume="mrpo")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster: given nowhere\.yaml, allowed: a YAML file"):
        load_cluster("nowhere.yaml", SlurmCluster)
