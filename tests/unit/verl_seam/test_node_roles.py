"""Each pool lands on the nodes of its role, and anywhere if there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mrpo.verl_seam.node_roles import REWARD_NODE, ROLLOUT_NODE, TRAINER_NODE, role_of

pytestmark = pytest.mark.unit

ON_A_CLUSTER = """
import json, os, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table
from verl.single_controller.ray.base import RayResourcePool
from mrpo.verl_seam import node_roles
from mrpo.driver.bare_node import bare_node
from mrpo.driver.other_nodes import on_other_nodes

def visit(folder):
    Path(folder, ray.get_runtime_context().get_node_id()).touch()

nodes = {}
with bare_node():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for role in ("mrpo_trainer", "mrpo_rollout", "mrpo_rollout"):
        nodes[cluster.add_node(num_cpus=40, num_gpus=4, resources={role: 1}).node_id] = role
cluster.wait_for_nodes()
ray.init(cluster.address, logging_level="ERROR")
node_roles.apply()
placed = {}
for name in ("global_pool", "rollout_pool_0", "rollout_pool_reward_0_helpful"):
    pool = RayResourcePool([2], name_prefix=name)
    (group,) = pool.get_placement_groups()
    placed[name] = sorted({nodes[node] for node in placement_group_table(group)["bundles_to_node_id"].values()})
placed["workers for rollouts"] = [nodes[node] for node in node_roles.nodes_for("mrpo_rollout")]
placed["workers for rewards"] = len(set(node_roles.nodes_for("mrpo_reward")))
assert on_other_nodes(visit, sys.argv[1], seconds=60) == []
placed["troubles"] = on_other_nodes(visit, "/nowhere", seconds=60)
placed["visited"] = sorted(nodes[node] for node in os.listdir(sys.argv[1]))
print(json.dumps(placed))
"""


def test_pools_are_told_by_their_names() -> None:
    pools = ("global_pool", "rollout_pool_1", "rollout_pool_reward_0_harmless", "transfer_queue")
    assert [role_of(pool) for pool in pools] == [TRAINER_NODE, ROLLOUT_NODE, REWARD_NODE, None]


def test_pools_land_on_the_nodes_of_their_role_and_other_nodes_can_be_visited(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_A_CLUSTER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    placed = json.loads(done.stdout.splitlines()[-1])
    assert placed["global_pool"] == [TRAINER_NODE]
    assert placed["rollout_pool_0"] == [ROLLOUT_NODE]
    assert len(placed["rollout_pool_reward_0_helpful"]) == 1  # no node is there for it: any will do
    assert placed["workers for rollouts"] == [ROLLOUT_NODE, ROLLOUT_NODE]
    assert placed["workers for rewards"] == 4  # all nodes, the head's too
    assert len(placed["troubles"]) == 3
    assert all("No such file" in trouble for trouble in placed["troubles"])
    assert placed["visited"] == [ROLLOUT_NODE, ROLLOUT_NODE, TRAINER_NODE]  # all but the head, from where it was asked
