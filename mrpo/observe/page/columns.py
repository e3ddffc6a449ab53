"""Typed columns as text: exact, compact, and quick to read for a browser."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from array import array
from collections.abc import Iterable
from typing import Any

TYPES = {"d": "Float64Array", "i": "Int32Array", "I": "Uint32Array", "B": "Uint8Array"}
"""The browser's typed array by Python's type code."""
_LEVEL = 6
_LARGEST = {"i": 2**31 - 1, "I": 2**32 - 1, "B": 255}


def pack(values: array[Any]) -> dict[str, str]:
    """A column as JSON takes it: its type in the browser, and its little-endian bytes, deflated, in base64.

    >>> unpack(pack(array("d", [0.1, float("inf")])))
    array('d', [0.1, inf])
    """
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return {"type": TYPES[values.typecode], "data": text_of(deflate(values.tobytes()))}


def unpack(column: dict[str, str]) -> array[Any]:
    """What ``pack`` was given. Raises KeyError for an unknown type, and zlib.error for damaged bytes."""
    code = {name: code for code, name in TYPES.items()}[column["type"]]
    values: array[Any] = array(code, zlib.decompress(base64.b64decode(column["data"])))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def deflate(content: bytes) -> bytes:
    """In zlib's format, which a browser's ``DecompressionStream("deflate")`` reads."""
    return zlib.compress(content, _LEVEL)


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def numbers(values: Iterable[object]) -> array[float]:
    """Floats, NaN for what is no number: a reward without a score, a metric that a step lacks.

    >>> numbers([1, 0.5, None, "x", True, 10**400])
    array('d', [1.0, 0.5, nan, nan, nan, inf])
    """
    return array("d", map(number, values))


def number(value: object) -> float:
    """One value of ``numbers``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def whole(value: object, code: str = "i", missing: int = 0) -> int:
    """An integer that fits into the type; ``missing`` for anything else."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST[code]
    return int(value) if fits else missing  # type: ignore[call-overload]


def json_for_html(value: object) -> str:
    """JSON that can stand inside a ``<script>``: nothing in it ends the element or begins another.

    >>> json_for_html({"</script>": "\\ud800"})
    '{"\\\\u003c/script>":"\\\\ud800"}'
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
