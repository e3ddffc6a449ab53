"""The quickstart's model, exported by the command, answers by vLLM and by transformers alone, and alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from mrpo.record.run_folder import RunFolder
from tests.gpu.part import Context

ELSEWHERE = Path(__file__).parents[2] / "e2e"
"""Programs that load a folder as anybody would."""
TOKENS = 24


def exported(context: Context) -> None:
    run, model = RunFolder(context.run_dir("quickstart_float32")), context.out / "exported"
    export = [sys.executable, "-m", "mrpo.cli.main", "export", str(run.path), "--out", str(model)]
    done = subprocess.run(export, capture_output=True, text=True, check=False)
    context.report.figure("mrpo export", (done.stdout + done.stderr).strip()[-200:])
    context.report.require("it is exported", done.returncode == 0)
    prompts = yaml.safe_load(run.config.read_text())["data"]["val_files"][0]
    by_vllm, by_transformers = (answers(name, model, prompts) for name in ("plain_vllm.py", "plain_transformers.py"))
    context.report.figure("log-probabilities, vLLM's - transformers'", by_vllm["log_probs"])
    same = [by_vllm["answers"][prompt] == text for prompt, text in by_transformers["answers"].items()]
    context.report.figure("greedy answers that are the same", f"{sum(same)} of {len(same)}")
    context.report.figure("an answer", str(next(iter(by_vllm["answers"].values()))))
    context.report.require("nine in ten greedy answers are the same", sum(same) >= 0.9 * len(same))


def answers(script: str, model: Path, prompts: str) -> dict[str, Any]:
    command = [sys.executable, str(ELSEWHERE / script), str(model), prompts, str(TOKENS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=model.parent)
    if done.returncode != 0:
        raise RuntimeError(f"{script}: {done.stderr[-1500:]}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
