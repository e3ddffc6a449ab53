"""What not every machine has, or the test is skipped: real rows and a sandbox."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mrpo.rewards.sandbox import SandboxError, find_sandbox

ROOT = Path(__file__).parents[4]


def real_file(name: str) -> Path:
    """``name`` below ``$MRPO_TEST_DATA``, or ``shared/data`` in or beside the checkout."""
    given = os.environ.get("MRPO_TEST_DATA")
    folders = [Path(given)] if given else [ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"no {name} in {' or '.join(map(str, folders))}; name its folder in MRPO_TEST_DATA")


def real_json(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(real_file(name).read_text(encoding="utf-8"))
    return rows


def require_sandbox() -> None:
    """Skip the test where no code can be run safely."""
    try:
        find_sandbox()
    except SandboxError as error:
        pytest.skip(f"no code can be run here: {error}")
