"""What was found, as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(content: Mapping[str, Any]) -> str:
    """A row for each part, and under it one for each figure.

    >>> part = {"part": "doctor", "outcome": "failed", "seconds": 2.0, "figures": {"code": 1}, "unmet": ["GPUs: 1"]}
    >>> machine = {"card": "H100", "date": "2026-01-31", "cores": 16, "versions": {"torch": "2.11.0"}}
    >>> print(table({"machine": machine, "seconds": 2.0, "parts": [part]}))
    H100, 16 cores, 2026-01-31, torch 2.11.0; 2 s in all.
    <BLANKLINE>
    | part | outcome | figure | value |
    |---|---|---|---|
    | doctor | **failed**, 2 s | does not hold | GPUs: 1 |
    | | | code | 1 |
    <BLANKLINE>
    """
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    of = f"{machine['card']}, {machine['cores']} cores, {machine['date']}, {versions}"
    lines = [f"{of}; {content['seconds']:.0f} s in all."]
    lines += ["", "| part | outcome | figure | value |", "|---|---|---|---|"]
    for part in content["parts"]:
        said = part["outcome"] if part["outcome"] == "passed" else f"**{part['outcome']}**"
        rows = [("error", part["error"])] if part.get("error") else []
        rows += [("does not hold", what) for what in part.get("unmet", [])]
        rows += list(part.get("figures", {}).items())
        for number, (name, value) in enumerate(rows or [("", "")]):
            begin = f"| {part['part']} | {said}, {part['seconds']:.0f} s" if number == 0 else "| | "
            lines.append(f"{begin.rstrip()} | {_cell(name)} | {_cell(value)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())[-300:]
