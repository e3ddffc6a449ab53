"""What a run would be, by arithmetic from its configuration: batches, actors, nodes, memory, checkpoints.

Pure: facts of files (rows, a model's shape, seconds per step) come in as arguments. Every quantity carries its formula,
and nothing that isn't known is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mrpo.config.adapter_size import adapter_parameters
from mrpo.config.model_size import BYTES, ModelShape, Quantity, UnknownSize, engine_memory, trainer_memory
from mrpo.config.observe import TOKEN_BYTES
from mrpo.config.placement import Groups, Node, group_of, misfits, pieces, place
from mrpo.config.reward_model import RewardModelConfig
from mrpo.config.rollout import RolloutConfig
from mrpo.config.run import RunConfig

GIB = 1 << 30
Sizes = Mapping[str, ModelShape | str]
"""A model's shape by its path, or why it isn't known."""


class Actors(NamedTuple):
    """Processes of one kind. ``devices`` is of each; one that takes turns with another has none of its own."""

    what: str
    number: int
    devices: int
    where: str


@dataclass
class Plan:
    """All of it. ``problems`` are what keeps the run from working, ``notes`` what to know."""

    device: str
    batch: dict[str, Quantity]
    actors: list[Actors]
    nodes: list[Node]
    memory: dict[str, dict[str, Quantity]]
    checkpoints: dict[str, Quantity]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    adapter: Quantity | None = None
    """Parameters of ``model.lora``'s adapter; None: there is none, or its size is unknown."""


def batch_arithmetic(config: RunConfig, rows: int | None) -> dict[str, Quantity]:
    """Counts of a step and of the run. ``rows``: training prompts, None where the files aren't made yet."""
    budget, actor, steps = config.budget, config.actor, config.trainer.total_training_steps
    prompts, mini, n = config.data.train_batch_size, config.mini_batch_size, budget.trained_per_prompt
    alike = budget.method == "uniform" and budget.unit == "rollouts"
    low, high = (budget.rollouts_per_prompt,) * 2 if alike else (budget.low, budget.high)
    rounds = budget.rounds.max_rounds if budget.rounds else 1
    about = "" if budget.unit == "rollouts" else " on average: the budget counts tokens"
    longest, trained = config.data.max_prompt_length + config.data.max_response_length, config.rollouts_per_step
    share, minis = mini * n // config.ranks, prompts // mini
    micro = min(share, math.ceil(share * longest / actor.ppo_max_token_len_per_gpu))
    found: dict[str, tuple[float | None, str]] = {
        "prompts per step": (prompts, "data.train_batch_size"),
        "rollouts per prompt, mean": (budget.rollouts_per_prompt, "budget.rollouts_per_prompt"),
        "rollouts per prompt, fewest": (low, "all alike" if alike else "budget.low"),
        "rollouts per prompt, most": (high * rounds, f"{high} × {rounds} rounds"),
        "rollouts per step": (trained, f"{prompts} prompts × {n}{about}"),
        "tokens per step, most": (trained * longest, f"{trained} × {longest}{about}"),
        "mini-batches per step": (minis, f"{prompts} / {mini} prompts"),
        "optimizer steps per training step": (minis * actor.ppo_epochs, f"{minis} × {actor.ppo_epochs} epochs"),
        "rollouts per rank and mini-batch": (share, f"{mini} × {n} / {config.ranks} ranks{about}"),
        "micro-batches of these, all longest": (
            micro,
            f"min({share}, ceil({share} × {longest} / {actor.ppo_max_token_len_per_gpu} tokens))",
        ),
        "steps of the run": (steps, "trainer.total_training_steps"),
        "rollouts of the run": (trained * steps, f"{trained} × {steps}{about}"),
        "steps per epoch": (None, "unknown: the training files are not there yet"),
        "epochs": (None, "unknown: no step fits in the training files, or they are not there yet"),
    }
    if rows is not None:
        found["steps per epoch"] = (rows // prompts, f"floor({rows} rows / {prompts})")
    if rows is not None and rows >= prompts:
        found["epochs"] = (steps / (rows // prompts), f"{steps} / {rows // prompts}")
    return {name: Quantity(*pair) for name, pair in found.items()}


def recorded_tokens(config: RunConfig) -> dict[str, Quantity]:
    """Bytes that ``observe.tokens`` takes on disk if every response is as long as may be; nothing without it."""
    observe, steps, longest = config.observe, config.trainer.total_training_steps, config.data.max_response_length
    if not observe.tokens:
        return {}
    rollouts, recorded = min(observe.tokens, config.rollouts_per_step), observe.rollouts.count(steps)
    formula = f"{recorded} steps × {rollouts} × {longest} × about {TOKEN_BYTES}"
    return {"recorded tokens, on disk, most": Quantity(recorded * rollouts * longest * TOKEN_BYTES, formula, "B")}


def actors_of(config: RunConfig) -> list[Actors]:
    """The processes of a run, apart from Ray's own."""
    rollout, trainer, parallel = config.rollout, config.trainer, config.rollout.tensor_model_parallel_size
    engines = Actors("rollout engine", config.ranks // parallel, 0, f"on {parallel} ranks each, in turn with training")
    if rollout.placement == "separate":
        engines = Actors("rollout engine", rollout.replicas * rollout.nnodes, parallel, f"{rollout.replicas} a node")
    workers = config.scoring.workers
    found = [
        Actors("controller", 1, 0, "any node"),
        Actors("TransferQueue", 1 + trainer.nnodes, 0, "trainer's nodes"),
        Actors("trainer rank", config.ranks, 1, f"{trainer.n_gpus_per_node} a node"),
        engines,
        Actors("agent worker", rollout.agent_workers, 0, "trainer's nodes in turn"),
        Actors("reward worker", workers, 0, "nodes for rewards in turn"),
    ]
    for name, reward in config.rewards.items():
        where = f"{reward.processes} in each reward worker"
        found.append(Actors(f"process of reward {name}", workers * reward.processes, 0, where))
        if (model := reward.model) is not None:
            found.append(
                Actors(f"engine of reward {name}", model.replicas, model.tensor_model_parallel_size, "any node")
            )
    return found


def make_plan(
    config: RunConfig,
    sizes: Sizes,
    rows: int | None,
    device: str,
    groups: Groups | None = None,
    seconds: float | None = None,
    kv_space: float = 1.0,
) -> Plan:
    """The whole plan.

    Args:
        sizes: of the policy and of every reward model.
        rows: training prompts; None: not known.
        device: "cpu" or "gpu".
        groups: the cluster's nodes, which the run has to itself; None: as many as it needs.
        seconds: that a step takes; None: not known.
        kv_space: GiB that an engine on a CPU has for its KV cache (VLLM_CPU_KVCACHE_SPACE).
    """
    policy, problems, adapter = sizes[config.model.path], [], None
    if config.model.lora is not None and not isinstance(policy, str):
        try:
            adapter = adapter_parameters(policy, config.model.lora)
        except UnknownSize as unknown:
            problems.append(str(unknown))
    saved = checkpoints(config, policy, seconds, 0 if adapter is None else adapter.whole)
    batch = batch_arithmetic(config, rows) | recorded_tokens(config)
    plan = Plan(device, batch, actors_of(config), [], {}, saved, problems, adapter=adapter)
    if rows is not None and rows < config.data.train_batch_size:
        given = config.data.train_batch_size
        plan.problems.append(f"data.train_batch_size: given {given}, allowed: at most the {rows} rows of the files")
    _lay_out(plan, config, groups)

    def limit(role: str) -> float | None:
        return groups[group_of(role, groups)].gpu_memory if groups is not None and device == "gpu" else None

    _weigh_trainer(plan, config, policy, limit("trainer"))
    longest = config.data.max_prompt_length + config.data.max_response_length
    _weigh_engine(plan, "rollout", config.rollout, policy, longest, limit("rollout"), kv_space)
    for name, reward in config.rewards.items():
        if (model := reward.model) is not None:
            _weigh_engine(
                plan, f"rewards.{name}.model", model, sizes[model.path], model.max_model_len, limit("reward"), kv_space
            )
    return plan


def checkpoints(
    config: RunConfig, shape: ModelShape | str, seconds: float | None, adapter: int = 0
) -> dict[str, Quantity]:
    """Bytes saved: parameters and two moments in float32, ``12·P`` each time; and the model that the run leaves, once.
    With an ``adapter`` of ``A`` parameters it is ``4·P + 12·A``.

    An old checkpoint goes when a new one is whole, so the disk holds one more than what is kept.
    """
    given, steps = config.checkpoint, config.trainer.total_training_steps
    saved = list(range(given.every, steps + 1, given.every)) if given.every > 0 else []
    if given.final and steps not in saved:
        saved.append(steps)
    rounding = "ceil" if given.final else "floor"
    only = "the last step: checkpoint.final" if given.final else "checkpoint.every"
    count = Quantity(len(saved), f"{rounding}({steps} / {given.every})" if given.every > 0 else only)
    if isinstance(shape, str):
        return {"saves": count, "one": Quantity(None, f"unknown: {shape}", "B")}
    parameters = shape.parameters.whole
    size, formula = 12 * parameters, f"12 × {parameters:,}"
    if adapter:
        size, formula = 4 * parameters + 12 * adapter, f"(4 × {parameters:,} + 12 × {adapter:,})"
    found = {"saves": count, "one": Quantity(size, formula, "B")}
    if not saved:
        return found
    kept = {*saved[-given.keep_last :], *(s for s in saved if given.keep_every and s % given.keep_every == 0)}
    most = min(len(kept) + given.keep_best + 1, len(saved))
    found["on disk, most"] = Quantity(most * size, f"{most} × {formula}", "B")
    found["written in all"] = Quantity(len(saved) * size, f"{len(saved)} × {formula}", "B")
    if given.every > 0:
        hourly = Quantity(None, "unknown: no run of this recipe to time a step by", "B")
        if seconds is not None:
            hourly = Quantity(
                size * 3600 / (given.every * seconds), f"{formula} × 3600 / ({given.every} × {seconds:.6g})", "B"
            )
        found["written in an hour"] = hourly
    if given.asynchronous:
        found["copy of a rank's part, in host memory"] = Quantity(
            size / config.ranks, f"{formula} / {config.ranks}", "B"
        )
    if config.trainer.export != "none":
        width = BYTES[config.rollout.dtype]
        found["model that the run leaves"] = Quantity(width * parameters, f"{width} × {parameters:,}", "B")
    return found


def _lay_out(plan: Plan, config: RunConfig, groups: Groups | None) -> None:
    parts, gpu = pieces(config), plan.device == "gpu"
    if groups is not None:
        plan.problems += misfits(config, groups, gpu)
    if gpu and groups is not None:
        plan.nodes, left = place(parts, groups)
        if not left and place(parts, groups, spread=True)[1]:
            plan.notes.append(
                "it fits only if Ray packs it closely; one that spreads engines leaves no node for the rest"
            )
    else:
        least = max(config.trainer.nnodes, config.rollout.nnodes if config.rollout.placement == "separate" else 1)
        given = {role: group.nodes for role, group in groups.items()} if groups is not None else {"trainer": least}
        plan.nodes = [Node(role) for role, number in given.items() for _ in range(number)]
        for part in parts:
            there = [node for node in plan.nodes if node.group == group_of(part.role, given)]
            there[part.home % len(there)].take(part.what, part.devices, part.cpus)
    plan.nodes[0].take("controller", cpus=1)
    for _ in range(1 + config.trainer.nnodes):
        plan.nodes[0].take("TransferQueue", cpus=1)
    present = {node.group for node in plan.nodes}
    for what, role, count in (
        ("agent worker", "trainer", config.rollout.agent_workers),
        ("reward worker", "reward", config.scoring.workers),
    ):
        there = [node for node in plan.nodes if node.group == group_of(role, present)]
        for i in range(count):
            there[i % len(there)].take(what)
    if gpu and groups is not None:
        _count_cpus(plan, groups)


def _count_cpus(plan: Plan, groups: Groups) -> None:
    reserved, has = sum(node.cpus for node in plan.nodes), 0
    for group in groups.values():
        if group.cpus_per_node is None:
            plan.notes.append("cpus_per_node isn't set for all nodes, so nobody knows whether CPUs suffice")
            return
        has += group.nodes * group.cpus_per_node
    if reserved >= has:
        plan.problems.append(
            f"cluster: its nodes have {has} CPUs, but Ray reserves {reserved} and needs one to start workers"
        )


def _weigh_trainer(plan: Plan, config: RunConfig, shape: ModelShape | str, limit: float | None) -> None:
    if isinstance(shape, str):
        plan.memory["trainer rank"] = {"total": Quantity(None, f"unknown: {shape}", "B")}
        return
    width, tokens, p = BYTES[config.model.dtype], config.actor.ppo_max_token_len_per_gpu, shape.parameters.whole
    adapter = 0 if plan.adapter is None else plan.adapter.whole
    reference = config.actor.kl_loss_coef > 0 and not adapter  # else the model without its adapter
    beside, recompute = reference and plan.device == "cpu", config.model.gradient_checkpointing
    found = trainer_memory(shape, config.ranks, width, tokens, recompute, beside, adapter)
    total = found["total"].value or 0
    if reference and plan.device == "gpu":  # verl keeps it off the device
        found["reference model, in host memory"] = Quantity(4 * p / config.ranks, f"4 × {p:,} / {config.ranks}", "B")
    plan.memory["trainer rank"] = found
    if limit is None:
        return
    if total > limit * GIB:
        plan.problems.append(f"trainer: a rank takes about {total / GIB:.1f} GiB, its GPU has {limit:g}")
    held = 4 * p + 12 * adapter if adapter else 12 * p
    state, share = held / config.ranks / GIB, config.rollout.gpu_memory_utilization
    if config.rollout.placement == "colocated" and state + share * limit > limit:
        room = f"beside {state:.1f} GiB of parameters and moments on a GPU of {limit:g}"
        plan.problems.append(f"rollout.gpu_memory_utilization: given {share:g}, which doesn't fit {room}")


def _weigh_engine(
    plan: Plan,
    field: str,
    given: RolloutConfig | RewardModelConfig,
    shape: ModelShape | str,
    length: int,
    limit: float | None,
    kv_space: float,
) -> None:
    title = f"an engine of {field}, on each of {given.tensor_model_parallel_size} devices"
    if isinstance(shape, str):
        plan.memory[title] = {"weights": Quantity(None, f"unknown: {shape}", "B")}
        return
    parallel = given.tensor_model_parallel_size
    found = engine_memory(shape, BYTES[given.dtype], parallel, given.max_num_seqs, length)
    plan.memory[title] = found
    if shape.heads % parallel:
        plan.problems.append(
            f"{field}.tensor_model_parallel_size: given {parallel}, allowed: a divisor of {shape.heads} heads"
        )
    weights, longest = (found[key].value or 0 for key in ("weights", "KV cache of a longest sequence"))
    if plan.device == "cpu":
        room = Quantity(kv_space * GIB, f"{kv_space:g} × {GIB}", "B")
    elif limit is not None:
        room = Quantity(
            given.gpu_memory_utilization * limit * GIB - weights,
            f"{given.gpu_memory_utilization} × {limit:g} × {GIB} - {weights:.0f}",
            "B",
        )
    else:
        return
    found["room for the KV cache, most"] = room
    at_once = math.floor((room.value or 0) / longest)
    if at_once < 1:
        have = f"{max(0, room.value or 0) / GIB:.2g} GiB of room beside {weights / GIB:.1f} of weights"
        plan.problems.append(f"{field}: {have}; a sequence of {length} tokens takes {longest / GIB:.2g}")
    elif at_once < given.max_num_seqs:
        plan.notes.append(
            f"{field}: room for {at_once} longest sequences at once, of max_num_seqs={given.max_num_seqs}"
        )
