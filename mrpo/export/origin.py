"""``mrpo.json`` in an exported folder: which checkpoint it was made of."""

from __future__ import annotations

import json
from pathlib import Path

ORIGIN = "mrpo.json"


def step_of_export(folder: Path) -> int | None:
    """The step of the checkpoint that ``folder`` was exported from; None if it doesn't say."""
    try:
        step = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
