"""Run a recipe's prepare script as ``mrpo train`` does, on real rows where there are any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

RECIPES = Path(__file__).parents[3] / "recipes"


def prepare(recipe: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python prepare.py ARGUMENTS --out OUT --seed 0`` without MRPO_DATA, and without a network."""
    script = [sys.executable, str(RECIPES / recipe / "prepare.py"), *arguments, "--out", str(out), "--seed", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "MRPO_DATA"} | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(script, capture_output=True, text=True, timeout=500, check=False, env=environment)


def prepared(recipe: str, out: Path, *arguments: str) -> str:
    """What the script prints. Fails with its message if it fails."""
    done = prepare(recipe, out, *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a file, after a look at verl's schema."""
    found = [{str(k): v for k, v in row.items()} for row in pd.read_parquet(file).to_dict("records")]
    for row in found:
        assert set(row) == {"data_source", "prompt", "reward_model", "extra_info"}
        assert [(m["role"], bool(m["content"])) for m in row["prompt"]] == [("user", True)]
        assert row["reward_model"]["style"] == "rule"
        assert isinstance(row["reward_model"]["ground_truth"], str)
        assert isinstance(row["extra_info"]["index"], int)
    assert len({row["extra_info"]["index"] for row in found}) == len(found) > 0
    return found
