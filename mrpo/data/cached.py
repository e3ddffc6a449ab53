"""The rows that verl gets, made in a process of their own, once for the same files, tokenizer and settings.

A run reads what lies in the cache; it is made again where it is missing, as when a run goes on on another machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mrpo.config.data_files import files_of
from mrpo.config.run import RunConfig
from mrpo.data.check import Job, Report, name_of
from mrpo.errors import ConfigError, RunFailed
from mrpo.program import run_and_poll
from mrpo.record.cause import root_cause
from mrpo.resources import cache_root
from mrpo.rewards.source import file_of

TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt")


def job_of(config: RunConfig, verl: DictConfig) -> Job:
    """What decides the rows of a run; ``verl``: its configuration in verl's words."""
    data, agent, model = config.data, config.rollout.agent, verl.actor_rollout_ref.model
    kinds = ("train_files", "val_files")
    return Job(
        files={f"data.{kind}[{i}]": file for kind in kinds for i, file in enumerate(getattr(data, kind))},
        columns={name: column for name, column in data.columns.model_dump().items() if column is not None},
        overlong=data.overlong,
        max_prompt_length=data.max_prompt_length,
        train_batch_size=data.train_batch_size,
        tokenizer=str(model.get("tokenizer_path") or model.path),
        template=model.get("custom_chat_template"),
        template_options=OmegaConf.to_container(verl.data.apply_chat_template_kwargs),
        trust_remote_code=bool(model.get("trust_remote_code", False)),
        agents=tuple(sorted(agent.names, key=lambda name: name != agent.loop)),
        tools=tuple(agent.tools),
        recipe_folder=str(verl.mrpo.recipe_folder) if agent.tools else ".",
    )


def folder_of(job: Job) -> Path:
    """Where its rows are kept, by all that they follow from."""
    digest = hashlib.sha256(job.model_dump_json().encode())
    digest.update(version("transformers").encode())
    tokenizer = Path(job.tokenizer or "no tokenizer").expanduser()
    of_tokenizer = [file for pattern in TOKENIZER_FILES for file in sorted(tokenizer.glob(pattern))]
    code = sorted(Path(__file__).parent.glob("*.py"))
    of_data = [file for given in job.files.values() for file in files_of(given)]
    of_tools = [file_of(given, Path(job.recipe_folder), "rollout.agent.tools") for given in job.tools]
    for file in [*of_data, *of_tokenizer, *of_tools, *code]:
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return cache_root() / f"rows-{digest.hexdigest()[:16]}"


def make_rows(job: Job, poll: Callable[[], None] = lambda: None) -> tuple[Path, Report]:
    """The folder of a job's rows and the report, made now unless they are there.

    Args:
        poll: called a few times a second.

    Raises:
        ConfigError: a row, a file or the chat template is refused.
        RunFailed: making them failed otherwise.
    """
    folder = folder_of(job)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
        try:
            _run(job, partial, poll)
            if not folder.exists():  # another run may have made them meanwhile
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder, Report.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))


def _run(job: Job, out: Path, poll: Callable[[], None]) -> None:
    (out / "job.json").write_text(job.model_dump_json(indent=1), encoding="utf-8")
    command = [sys.executable, "-m", "mrpo.data.check", str(out / "job.json"), str(out)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error"}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        code = run_and_poll(command, output, poll, environment)
        output.seek(0)
        said = output.read()
    refused = [line.removeprefix("refused: ") for line in said.splitlines() if line.startswith("refused: ")]
    if code == 2 and refused:
        raise ConfigError(refused[-1])
    if code != 0:
        raise RunFailed(root_cause(f"{said[-4000:]}\nchecking the rows ended with exit code {code}"))


def use_rows(verl: DictConfig, job: Job, folder: Path) -> None:
    """Let verl read the rows in ``folder`` in place of the files that they were made from."""
    for kind in ("train_files", "val_files"):
        made = [str(folder / name_of(field)) for field in job.files if field.startswith(f"data.{kind}[")]
        verl.data[kind] = made
