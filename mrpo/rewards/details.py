"""What a reward function returns besides its score, for the rollout's record: as JSON, and no more than fits there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

MAX_ENTRY = 2000
"""Characters of an entry as JSON; of a longer one its beginning is kept, as a text."""
MAX_ENTRIES = 16
"""Entries that are kept, the first ones."""
MAX_NAME = 100
"""Characters of an entry's name."""


def details_of(returned: Mapping[Any, Any], scores: Collection[str]) -> str:
    """The entries of ``returned`` whose keys aren't in ``scores``, as a JSON object; "" where there is none.

    Arrays become lists. What JSON hasn't (NaN, objects) becomes what Python prints of it.

    >>> details_of({"score": 1.0, "extracted": "5", "steps": 3}, {"score"})
    '{"extracted": "5", "steps": 3}'
    """
    others = islice(((key, value) for key, value in returned.items() if key not in scores), MAX_ENTRIES)
    kept = [f"{json.dumps(_text(key)[:MAX_NAME], ensure_ascii=False)}: {_entry(value)}" for key, value in others]
    # Half a character, of a broken decode, has no UTF-8.
    return ("{" + ", ".join(kept) + "}").encode("utf-8", "replace").decode() if kept else ""


def _entry(value: Any) -> str:
    if isinstance(value, str):
        cut = value if len(value) <= MAX_ENTRY else value[:MAX_ENTRY] + "…"
        return json.dumps(cut, ensure_ascii=False)
    try:
        text = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
    except Exception:  # NaN, a key or an object that JSON hasn't, too deep, or its own code raises
        return _entry(_text(value))
    return text if len(text) <= MAX_ENTRY else _entry(text)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's and torch's
        return value.tolist()
    raise TypeError


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"a {type(value).__name__}"
