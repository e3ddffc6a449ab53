"""Try a model: its responses to prompts of yours, with each reward beside each.

TARGET is a run, whose model responses and whose rewards score, a model's Hugging Face folder, or OWNER/NAME on the hub.
Prompts are arguments, or lines of standard input. With --against another model responses as well, in the next column,
with the same seeds; "base" is the one that the run began with. It takes no Ray and no engine: for many prompts there is
mrpo evaluate.

A reward that needs a ground truth shows a dash unless --ground-truth gives one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mrpo.cli._app import examples, new_app
from mrpo.cli._complete import complete_run
from mrpo.cli._table import table
from mrpo.config.agent import SINGLE_TURN
from mrpo.config.check import check_reward
from mrpo.config.load import load_run_config, load_saved_config
from mrpo.config.recipes import find_recipe
from mrpo.config.run import RewardConfig, RunConfig
from mrpo.data.files import read_records
from mrpo.data.rows import make_row
from mrpo.errors import ConfigError
from mrpo.evaluation.responses import Response, Sampling, respond
from mrpo.evaluation.targets import BASE, MODEL_FOLDER, Target, of_model, resolve, run_of
from mrpo.exit_code import ExitCode
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.no_ground_truth import CAUSE, NoGroundTruth
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        'mrpo sample latest "c+2"',
        'mrpo sample latest "c+2" --ground-truth e --n 4 --against base',
        "mrpo sample exported --recipe quickstart < prompts.txt",
    ),
)
def sample(
    given: Annotated[str, typer.Argument(metavar="TARGET", help="A run, or a model.", autocompletion=complete_run)],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Default: each line of standard input.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="TARGET", help="Another model to answer as well.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="Whose rewards, for a model of no run.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Responses to each prompt.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Default: 0 for one response, else the run's in training.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest response. Default: the run's data.max_response_length.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Sampling seed.")] = 0,
    ground_truth: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What rewards compare with, for a single prompt; JSON where rows have no text."
        ),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that somebody else's run folder names.")] = False,
) -> ExitCode:
    run = run_of(given)
    if run is not None and recipe is None and not trust:
        run.require_own()
    config, folder = _setting(run, recipe)
    targets = [_target(given, run)]
    if against is not None:
        targets.append(_against(against, run, config))
    asked = _prompts(prompts or [])
    if ground_truth is not None and len(asked) > 1:
        raise ConfigError(f"--ground-truth: given for {len(asked)} prompts, allowed: for one.")
    if temperature is None:
        temperature = 0.0 if n == 1 else 1.0 if config is None else config.rollout.temperature
    if temperature == 0 and n > 1:
        raise ConfigError(f"--n: given {n} with temperature 0, allowed: 1. Greedy responses are all the same.")
    longest = max_tokens or (256 if config is None else config.data.max_response_length)
    sampling = Sampling(n, temperature, longest, seed)
    responses = _responses(targets, asked, sampling, config)
    truth = NoGroundTruth() if ground_truth is None else _as_in_rows(ground_truth, config)
    scored = asyncio.run(_score(asked, responses, config, folder, truth))
    console = Console()
    for number, prompt in enumerate(asked):
        console.print(Text(prompt, style="bold"))
        console.print(_table([a[number] for a in responses], [s[number] for s in scored], targets))
    for line in _reasons(scored, config):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return ExitCode.DONE


def _setting(run: RunFolder | None, recipe: str | None) -> tuple[RunConfig | None, Path]:
    """Whose rewards, and the folder of their files; None: there are none."""
    if recipe is not None:
        config, found = load_run_config([f"recipe={recipe}"])
        return _checked(config, found.folder)
    if run is None:
        return None, Path()
    config = load_saved_config(run.config, [])
    return _checked(config, find_recipe(config.recipe).folder)


def _checked(config: RunConfig, folder: Path) -> tuple[RunConfig, Path]:
    if config.rollout.agent.loop != SINGLE_TURN:
        raise ConfigError(
            f"rollout.agent.loop: given {config.rollout.agent.loop}, allowed: {SINGLE_TURN}. Here a model "
            "answers in one turn, without tools: mrpo evaluate asks as the run does."
        )
    for name, reward in config.rewards.items():
        check_reward(f"rewards.{name}", reward, folder)
    return config, folder


def _target(given: str, run: RunFolder | None) -> Target:
    """A model that transformers can load; of a run, the one that it has left. Raises ConfigError."""
    if run is None or Path(given).expanduser().resolve() == (run.path / MODEL_FOLDER).resolve():
        return resolve(given)
    model = run.path / MODEL_FOLDER
    if Path(given).expanduser().resolve().parent == run.checkpoints.resolve() or not model.is_dir():
        raise ConfigError(
            f"target: given {given}, which holds no model's folder. Make one of its checkpoint: "
            f"mrpo export {run.path} --out FOLDER, then mrpo sample FOLDER --recipe NAME"
        )
    return Target(run.name, of_model(str(model)).model)


def _against(given: str, run: RunFolder | None, config: RunConfig | None) -> Target:
    if given == BASE and run is not None and config is not None:
        return resolve(given, home=(run, config))
    return _target(given, run_of(given))


def _as_in_rows(text: str, config: RunConfig | None) -> Any:
    """A ground truth as the training rows have theirs: text, or what ``text`` is as JSON. Of rows that aren't here
    nothing is known."""
    file = Path(config.data.train_files[0]).expanduser() if config is not None else None
    if config is None or file is None or not file.is_file():
        return text
    columns = config.data.columns.model_dump(exclude_none=True)
    _, record = next(read_records(file))
    if isinstance(make_row(record, 1, columns, "")["reward_model"]["ground_truth"], str | None):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(f"--ground-truth: given {text!r}, allowed: JSON, as in {file}.") from None


def _prompts(given: Sequence[str]) -> list[str]:
    asked = list(given)
    if not asked and not sys.stdin.isatty():
        asked = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not asked:
        raise ConfigError("prompt: none given. Allowed: as arguments, or one a line on standard input.")
    return asked


def _responses(
    targets: Sequence[Target], prompts: Sequence[str], sampling: Sampling, config: RunConfig | None
) -> list[list[list[Response]]]:
    """By target, prompt and sample."""
    progress = Console(stderr=True)
    dtype = "float32" if config is None else config.rollout.dtype
    data = {} if config is None else config.verl.get("data") or {}
    with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        tasks = [bar.add_task(target.name, total=len(prompts)) for target in targets]
        return [
            respond(
                target.model,
                prompts,
                sampling,
                dtype,
                data.get("apply_chat_template_kwargs"),
                each=lambda task=task: bar.advance(task),  # type: ignore[misc]
            )
            for target, task in zip(targets, tasks, strict=True)
        ]


Scores = list[list[list[dict[str, Outcome]]]]


async def _score(
    prompts: Sequence[str],
    responses: Sequence[Sequence[Sequence[Response]]],
    config: RunConfig | None,
    folder: Path,
    truth: Any,
) -> Scores:
    """By target, prompt and sample: each reward's outcome."""
    rewards = {} if config is None else _without_served(config.rewards)
    async with Scorer(rewards, folder) as scorer:

        async def all_of(prompt: str, of_prompt: Sequence[Response]) -> list[dict[str, Outcome]]:
            chat = [{"role": "user", "content": prompt}]
            extras = [
                {"data_source": None, "response_tokens": one.tokens, "truncated": one.truncated} for one in of_prompt
            ]
            return await scorer.score_all(chat, [one.text for one in of_prompt], truth, extras)

        return [[await all_of(*one) for one in zip(prompts, of, strict=True)] for of in responses]


def _without_served(rewards: Mapping[str, RewardConfig]) -> dict[str, RewardConfig]:
    """Those that need no model which only a run serves."""
    return {name: reward for name, reward in rewards.items() if reward.model is None or "url" in reward.options}


def _table(
    responses: Sequence[Sequence[Response]],
    scores: Sequence[Sequence[Mapping[str, Outcome]]],
    targets: Sequence[Target],
) -> Table:
    """A column a model; of each sample the response, its rewards and its length."""

    def rows() -> Iterator[list[object]]:
        for sample, of_models in enumerate(zip(*responses, strict=True)):
            if sample:
                yield [""] * (1 + len(targets))
            yield ["response", *(one.text for one in of_models)]
            for name in scores[0][sample]:
                yield [name, *(_shown(of[sample][name]) for of in scores)]
            yield ["tokens", *(one.tokens for one in of_models)]

    headings = ["", *("/".join(Path(target.name).parts[-2:]) for target in targets)]
    return table("", headings, rows(), text_columns=len(headings))


def _shown(outcome: Outcome) -> str | None:
    return None if outcome.score is None else f"{outcome.score:.3g}"


def _reasons(scored: Scores, config: RunConfig | None) -> list[str]:
    """A line for each reward that shows a dash, and why."""
    if config is None:
        return ["no rewards: name whose with --recipe NAME"]
    lines: dict[str, None] = {}
    for name in config.rewards.keys() - _without_served(config.rewards).keys():
        lines[f"{name}: not scored: only a run serves its model. Set rewards.{name}.options.url to a server's."] = None
    for name, outcome in ((k, v) for of in scored for p in of for s in p for k, v in s.items() if v.score is None):
        hint = ". Give it by --ground-truth TEXT" if outcome.cause == CAUSE else ""
        lines[f"{name}: – {outcome.failure or 'not applicable'}{hint}"] = None
    return list(lines)
