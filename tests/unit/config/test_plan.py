"""A plan's numbers: on every recipe, on configurations worked out by hand, on clusters that hold them or don't."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.cluster import NodeGroup
from mrpo.config.load import load_run_config, validate
from mrpo.config.model_size import Quantity, shape_of
from mrpo.config.placement import Groups, Piece, misfits, place
from mrpo.config.plan import GIB, Plan, batch_arithmetic, make_plan
from mrpo.config.run import RunConfig
from tests.unit.config.test_model_size import QWEN_1_5B, calculated

pytestmark = pytest.mark.unit

RECIPES = sorted(
    file.parent.name if file.stem == "config" else f"{file.parent.name}/{file.stem}"
    for file in (Path(__file__).parents[3] / "recipes").glob("*/*.yaml")
)
SHAPE = shape_of(QWEN_1_5B)
P = 1_543_714_304


def run_config(**sections: Any) -> RunConfig:
    """A run of 32 prompts x 8 rollouts on 4 ranks and 2 engines, but for what ``sections`` say (``data__x=…``)."""
    content: dict[str, Any] = {
        "recipe": "hand",
        "model": {"path": "policy"},
        "data": {
            "train_files": ["a.parquet"],
            "val_files": ["b.parquet"],
            "train_batch_size": 32,
            "max_prompt_length": 100,
            "max_response_length": 300,
        },
        "rewards": {"good": {"function": "rewards.py:good"}},
        "rollout": {"replicas": 2},
        "actor": {"ppo_max_token_len_per_gpu": 8192},
        "trainer": {"n_gpus_per_node": 4, "total_training_steps": 60},
    }
    for name, value in sections.items():
        section, _, key = name.partition("__")
        content.setdefault(section, {})[key] = value
    if content["rollout"].get("placement") == "colocated":
        del content["rollout"]["replicas"]
    return validate(content)


def planned(config: RunConfig, device: str = "gpu", groups: Groups | None = None, **known: Any) -> Plan:
    sizes = {"policy": SHAPE, "judge": SHAPE}
    return make_plan(config, sizes, known.pop("rows", 1000), device, groups, **known)


def nodes(number: int, gpus: int, cpus: int | None, memory: float | None = None) -> Groups:
    """So many nodes, all alike."""
    return {"trainer": NodeGroup(nodes=number, gpus_per_node=gpus, cpus_per_node=cpus, gpu_memory=memory)}


def quantities(plan: Plan) -> list[Quantity]:
    return [q for table in (plan.batch, plan.checkpoints, *plan.memory.values()) for q in table.values()]


def values(table: dict[str, Quantity]) -> dict[str, float | None]:
    return {name: quantity.value for name, quantity in table.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_adds_up(recipe: str) -> None:
    config = load_run_config([f"recipe={recipe}"])[0]
    models = [config.model.path, *(r.model.path for r in config.rewards.values() if r.model)]
    rows = 7 * config.data.train_batch_size + 1
    plan = make_plan(config, dict.fromkeys(models, SHAPE), rows, "cpu")
    prompts, steps = config.data.train_batch_size, config.trainer.total_training_steps
    batch = values(plan.batch)
    assert batch["rollouts per step"] == prompts * config.budget.trained_per_prompt
    assert batch["rollouts of the run"] == steps * prompts * config.budget.trained_per_prompt
    share, minis = batch["rollouts per rank and mini-batch"], batch["mini-batches per step"]
    assert share is not None
    assert minis is not None
    assert share * minis * config.ranks == batch["rollouts per step"]
    assert batch["epochs"] == steps / 7
    assert sum(node.devices for node in plan.nodes) == sum(a.number * a.devices for a in plan.actors)
    assert sum(node.holds["reward worker"] for node in plan.nodes) == config.scoring.workers
    check_formulas(plan)


def check_formulas(plan: Plan) -> None:
    """Each formula that is arithmetic gives the value beside it; what has no value says that it is unknown."""
    for quantity in quantities(plan):
        if quantity.value is None:
            assert quantity.formula.startswith("unknown: ")
        elif re.search("[×/]", quantity.formula):
            assert calculated(quantity.formula) == pytest.approx(quantity.value, rel=1e-4), quantity


def test_a_batch_by_hand() -> None:
    config = run_config(actor__ppo_mini_batch_size=8, actor__ppo_epochs=2, actor__ppo_max_token_len_per_gpu=1000)
    assert values(batch_arithmetic(config, rows=1000)) == {
        "prompts per step": 32,
        "rollouts per prompt, mean": 8,
        "rollouts per prompt, fewest": 8,
        "rollouts per prompt, most": 8,
        "rollouts per step": 256,
        "tokens per step, most": 102_400,
        "mini-batches per step": 4,
        "optimizer steps per training step": 8,
        "rollouts per rank and mini-batch": 16,
        "micro-batches of these, all longest": 7,  # 16 x 400 tokens, 1000 at once
        "steps of the run": 60,
        "rollouts of the run": 15_360,
        "steps per epoch": 31,
        "epochs": 60 / 31,
    }


def test_unequal_budgets_have_bounds_and_rounds_multiply_them() -> None:
    fewest, most = "rollouts per prompt, fewest", "rollouts per prompt, most"
    batch = values(batch_arithmetic(run_config(budget__method="neyman", budget__low=3, budget__high=20), None))
    assert (batch[fewest], batch[most]) == (3, 20)
    batch = values(batch_arithmetic(run_config(budget__rounds={"max_rounds": 3, "keep": 4}), None))
    assert (batch[fewest], batch[most], batch["rollouts per step"]) == (8, 24, 128)
    tokens = batch_arithmetic(run_config(budget__unit="tokens"), None)
    assert (tokens[fewest].value, tokens[most].value) == (2, 32)
    assert "on average" in tokens["rollouts per step"].formula


def test_a_micro_batch_holds_at_least_one_rollout() -> None:
    config = run_config(actor__ppo_max_token_len_per_gpu=400)
    assert batch_arithmetic(config, None)["micro-batches of these, all longest"].value == 64


def test_fewer_rows_than_a_batch_are_a_problem_and_unknown_rows_are_not() -> None:
    plan = planned(run_config(), rows=31)
    assert plan.problems == ["data.train_batch_size: given 32, allowed: at most the 31 rows of the files"]
    assert plan.batch["epochs"].value is None
    unmade = planned(run_config(), rows=None)
    assert unmade.problems == []
    assert unmade.batch["steps per epoch"].formula == "unknown: the training files are not there yet"


JUDGE = {"model": {"path": "judge", "replicas": 3, "tensor_model_parallel_size": 2}, "processes": 4}


def test_actors_and_their_devices_by_hand() -> None:
    config = run_config(
        rewards__judge=JUDGE, trainer__nnodes=2, rollout__nnodes=2, rollout__tensor_model_parallel_size=2
    )
    plan = planned(config)
    assert {actors.what: (actors.number, actors.devices) for actors in plan.actors} == {
        "controller": (1, 0),
        "TransferQueue": (3, 0),
        "trainer rank": (8, 1),
        "rollout engine": (4, 2),
        "agent worker": (1, 0),
        "reward worker": (2, 0),
        "process of reward good": (2, 0),
        "process of reward judge": (8, 0),
        "engine of reward judge": (3, 2),
    }
    assert [node.devices for node in plan.nodes] == [4 + 4 + 4, 4 + 4 + 2]
    fewer = planned(run_config(trainer__nnodes=2))  # both engines on rollout.nnodes=1 of the nodes
    assert [node.devices for node in fewer.nodes] == [4 + 2, 4]


def test_colocated_engines_take_turns_on_the_ranks() -> None:
    plan = planned(run_config(rollout__placement="colocated", rollout__tensor_model_parallel_size=2))
    assert {actors.what: (actors.number, actors.devices) for actors in plan.actors}["rollout engine"] == (2, 0)
    assert [node.devices for node in plan.nodes] == [4]


@pytest.mark.parametrize(
    ("cluster", "config", "devices", "told"),
    [
        ((1, 8, 64), {}, [6], ""),
        ((1, 6, 64), {}, [6], ""),
        (
            (1, 5, 64),
            {},
            [5],
            "rollout.replicas: no room for 1 x (rollout engine: 1 GPUs and 2 CPUs on one node); cluster.trainer",
        ),
        (
            (2, 3, 64),
            {},
            [2, 0],
            "trainer.n_gpus_per_node: given 4, allowed: 3 or fewer; cluster.trainer has 2 x 3",
        ),
        ((2, 4, 64), {}, [4, 2], ""),
        ((1, 0, 64), {}, [0], "trainer.n_gpus_per_node: given 4, allowed: 0 or fewer"),
        (
            (1, 8, 11),
            {},
            [2],
            "(trainer ranks 0-3: 4 GPUs and 12 CPUs on one node); cluster.trainer has 1 x 8 GPUs and 11 CPUs",
        ),
        ((1, 8, 19), {}, [6], "cluster: its nodes have 19 CPUs, but Ray reserves 19"),
        ((1, 8, 20), {}, [6], ""),
        ((1, 8, None), {}, [6], ""),
        ((2, 8, 96), {"trainer__nnodes": 2, "rollout__replicas": 4, "rollout__nnodes": 2}, [8, 8], ""),
        ((2, 8, 96), {"trainer__nnodes": 2}, [8, 2], ""),
        ((2, 8, 96), {"trainer__n_gpus_per_node": 16}, [2, 0], "trainer.n_gpus_per_node: given 16, allowed: 8"),
        ((2, 8, 96), {"rewards__judge": JUDGE}, [8, 4], ""),
        (
            (2, 8, 96),
            {"rollout__tensor_model_parallel_size": 4, "rollout__replicas": 4},
            [8, 8],
            "rollout.replicas: no room for 1 x (rollout engine: 4 GPUs and 8 CPUs",
        ),
    ],
)
def test_a_cluster_holds_the_run_or_lacks_what_is_named(
    cluster: tuple[int, int, int | None], config: dict[str, Any], devices: list[int], told: str
) -> None:
    plan = planned(run_config(**config), "gpu", nodes(*cluster))
    assert [node.devices for node in plan.nodes] == devices
    assert told in "".join(plan.problems)
    assert bool(plan.problems) == bool(told)


def test_parts_with_nodes_of_their_own_are_on_them() -> None:
    groups = {**nodes(1, 4, 64), "rollout": NodeGroup(nodes=2, gpus_per_node=1), "reward": NodeGroup(gpus_per_node=6)}
    plan = planned(run_config(rewards__judge=JUDGE), "gpu", groups)
    assert [(node.group, node.devices) for node in plan.nodes] == [
        ("trainer", 4),
        ("rollout", 1),
        ("rollout", 1),
        ("reward", 6),
    ]
    assert plan.problems == []
    assert [node.holds["reward worker"] for node in plan.nodes] == [0, 0, 0, 2]
    assert any("cpus_per_node isn't set" in note for note in plan.notes)
    colocated = run_config(rollout__placement="colocated")
    assert "rollout.placement is colocated" in misfits(colocated, groups, gpu=False)[0]


def test_gpus_of_each_group_are_weighed_by_their_own_memory() -> None:
    small = {**nodes(1, 4, 64, 80), "rollout": NodeGroup(gpus_per_node=2, cpus_per_node=64, gpu_memory=4)}
    assert planned(run_config(), "gpu", nodes(1, 6, 64, 80)).problems == []
    [problem] = planned(run_config(), "gpu", small).problems
    assert problem.startswith("rollout: 0 GiB of room beside")


def test_what_only_close_packing_makes_fit_is_noted() -> None:
    config = run_config(rewards__judge={"model": {"path": "judge", "replicas": 2}}, trainer__n_gpus_per_node=8)
    tight, wide = (planned(config, "gpu", nodes(n, 8, 64)) for n in (2, 3))
    assert tight.problems == wide.problems == []
    assert "only if Ray packs it closely" in tight.notes[0]
    assert not any("packs" in note for note in wide.notes)


@settings(deadline=None)
@given(st.data())
def test_no_node_holds_more_than_it_has_and_nothing_is_lost(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), max_size=12))
    cpus = data.draw(st.integers(1, 30))
    groups = nodes(data.draw(st.integers(1, 4)), 8, cpus)
    parts = [Piece(f"part {i}", "rollout", "", size, 2 * size, 0) for i, size in enumerate(sizes)]
    for spread in (False, True):
        placed, left = place(parts, groups, spread)
        assert all(node.devices <= 8 and node.cpus <= cpus for node in placed)
        assert sum(node.devices for node in placed) + sum(part.devices for part in left) == sum(sizes)
        held = [what for node in placed for what in node.holds.elements()]
        assert sorted([*held, *(part.what for part in left)]) == sorted(part.what for part in parts)


def test_workers_go_round_the_nodes_and_a_cpu_has_no_limit() -> None:
    plan = planned(run_config(scoring__workers=5), "cpu", nodes(2, 0, 1))
    assert [node.holds["reward worker"] for node in plan.nodes] == [3, 2]
    assert plan.problems == []


CLUSTER = nodes(1, 8, 64, 24)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, ""),
        ({"actor__ppo_max_token_len_per_gpu": 65536}, "trainer: a rank takes about"),
        (
            {"rollout__gpu_memory_utilization": 0.1},
            "rollout: 0 GiB of room beside 2.9 of weights; a sequence of 400 tokens takes 0.0",
        ),
        (
            {"rollout__tensor_model_parallel_size": 5, "rollout__replicas": 1, "trainer__n_gpus_per_node": 2},
            "a divisor of 12 heads",
        ),
        (
            {"rollout__placement": "colocated", "rollout__gpu_memory_utilization": 0.9},
            "rollout.gpu_memory_utilization: given 0.9, which doesn't fit beside 4.3 GiB of parameters and moments on "
            "a GPU",
        ),
        ({"rewards__judge": {"model": {"path": "judge", "gpu_memory_utilization": 0.1}}}, "rewards.judge.model: 0 GiB"),
    ],
)
def test_what_exceeds_a_device_is_a_problem(config: dict[str, Any], told: str) -> None:
    plan = planned(run_config(**config), "gpu", CLUSTER)
    assert told in "".join(plan.problems)
    assert len(plan.problems) == bool(told)
    check_formulas(plan)


def test_room_for_fewer_sequences_than_asked_for_is_noted() -> None:
    token, longest = 2 * 28 * 256 * 2, 400
    plan = planned(run_config(rollout__max_num_seqs=4096), "gpu", CLUSTER)
    at_once = math.floor((0.5 * 24 * GIB - 2 * P) / (longest * token))
    assert plan.notes == [f"rollout: room for {at_once} longest sequences at once, of max_num_seqs=4096"]
    on_cpu = planned(run_config(), "cpu", kv_space=2.0)
    assert on_cpu.notes == [
        f"rollout: room for {2 * GIB // (longest * token)} longest sequences at once, of max_num_seqs=256"
    ]


@pytest.mark.parametrize(
    ("device", "name"), [("gpu", "reference model, in host memory"), ("cpu", "reference model, float32")]
)
def test_a_reference_model_is_counted_where_it_lies(device: str, name: str) -> None:
    without, beside = (planned(run_config(actor__kl_loss_coef=kl), device).memory["trainer rank"] for kl in (0.0, 0.1))
    assert beside[name].value == 4 * P / 4
    more = (beside["total"].value or 0) - (without["total"].value or 0)
    assert more == (0 if device == "gpu" else P)


def test_of_an_adapters_model_only_the_adapter_has_gradients_and_moments_and_no_reference_lies_beside() -> None:
    a = 16 * 28 * (2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960))
    config = run_config(model__lora={"rank": 16}, actor__kl_loss_coef=0.1)
    plan = planned(config)
    assert plan.adapter is not None
    assert plan.adapter.value == a
    rank = values(plan.memory["trainer rank"])
    assert rank["parameters, float32"] == 4 * (P + a) / config.ranks
    assert rank["gradients, float32"] == 4 * a / config.ranks
    assert rank["AdamW's two moments, float32"] == 8 * a / config.ranks
    assert not any("reference" in name for name in rank)
    assert values(plan.checkpoints)["one"] == 4 * P + 12 * a


def test_an_adapter_of_no_layer_is_a_problem() -> None:
    plan = planned(run_config(model__lora={"rank": 16, "target_modules": ["query"]}))
    assert any(problem.startswith("model.lora.target_modules") for problem in plan.problems)


def test_an_unknown_model_leaves_no_number_behind() -> None:
    plan = make_plan(
        run_config(checkpoint__every=5), {"policy": "config.json of policy not found locally"}, 99, "gpu", CLUSTER
    )
    for table in plan.memory.values():
        assert all(q == Quantity(None, "unknown: config.json of policy not found locally", "B") for q in table.values())
    assert plan.checkpoints["one"].value is None
    assert plan.problems == []


def test_checkpoints_by_hand() -> None:
    config = run_config(checkpoint__every=25, checkpoint__asynchronous=True)  # of 60 steps: 25, 50 and the last
    timed = planned(config, seconds=30.0)
    assert values(timed.checkpoints) == {
        "saves": 3,
        "one": 12 * P,
        "on disk, most": 36 * P,
        "written in all": 36 * P,
        "written in an hour": 12 * P * 3600 / (25 * 30),
        "copy of a rank's part, in host memory": 3 * P,
        "model that the run leaves": 2 * P,
    }
    check_formulas(timed)
    assert planned(config).checkpoints["written in an hour"].value is None
    assert values(planned(run_config(rollout__dtype="float32")).checkpoints) == {
        "saves": 1,
        "one": 12 * P,
        "on disk, most": 12 * P,
        "written in all": 12 * P,
        "model that the run leaves": 4 * P,
    }
    config = run_config(checkpoint__every=25, checkpoint__final=False, trainer__export="none")
    assert values(planned(config).checkpoints)["saves"] == 2
    config = run_config(checkpoint__final=False, trainer__export="none")
    assert values(planned(config).checkpoints) == {"saves": 0, "one": 12 * P}
