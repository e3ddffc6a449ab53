"""State files: exactly what went in comes out, and nothing of it runs."""

from __future__ import annotations

import math
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrpo.budget.history import PromptHistory
from mrpo.checkpoint.plain import load_state, save_state

pytestmark = pytest.mark.unit


def same(a: Any, b: Any) -> bool:
    """Equal to the type and the last bit; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        raw = [torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1)).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)
    if isinstance(a, float):
        return math.isnan(a) == math.isnan(b) and (math.isnan(a) or struct.pack("d", a) == struct.pack("d", b))
    return a == b


def through_a_file(state: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder, "state.npz"), state)
        return load_state(Path(folder, "state.npz"))


atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
shapes = hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3)
arrays = hnp.arrays(hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes(), shapes)
numeric = (
    hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="<") | hnp.floating_dtypes(endianness="<", sizes=(16, 32))
)
tensors = hnp.arrays(numeric, shapes).map(torch.from_numpy) | hnp.arrays(np.float32, shapes).map(
    lambda array: torch.from_numpy(array).bfloat16()
)
scalars = arrays.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
keys = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none() | st.tuples(st.integers())
states = st.recursive(
    atoms | arrays | scalars | tensors,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(states)
def test_everything_comes_back_to_the_type_and_bit(state: Any) -> None:
    assert same(through_a_file(state), state)


@pytest.mark.parametrize(
    "state",
    [
        {1: "int", "1": "str", 1.5: "float", None: "none", (1, "a"): "tuple", True * 2: "two"},
        [math.inf, -math.inf, math.nan, -0.0, 0.0, 5e-324, 2**64 - 1, -(2**200)],
        [(), [], {}, "", b"", ((),), [[]], "\ud800", "\0"],
        np.array(np.uint64(2**64 - 1)),
        np.zeros((0, 3), dtype=np.uint64),
        np.arange(6, dtype=">i4").reshape(2, 3).T,
        np.array(["2026-01-31"], dtype="datetime64[s]"),
        np.float32(0.1),
        [torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0, 3, dtype=torch.complex64), torch.arange(6)[::2]],
        torch.zeros(2, dtype=torch.float8_e4m3fn),
        torch.tensor([2**64 - 1], dtype=torch.uint64),
    ],
)
def test_edges_come_back(state: Any) -> None:
    assert same(through_a_file(state), state)


def test_random_generators_go_on_as_they_would_have() -> None:
    python, old, new, torch_rng = (
        random.Random(1),
        np.random.RandomState(2),
        np.random.default_rng(3),
        torch.Generator(),
    )

    def draw() -> list:
        return [python.gauss(0, 1), old.normal(), new.normal(), torch.rand(2, generator=torch_rng)]

    draw()
    state = {
        "python": python.getstate(),
        "old": old.get_state(),
        "new": new.bit_generator.state,
        "torch": torch_rng.get_state(),
        "twister": np.random.MT19937(4).state,
    }
    expected = draw()
    state = through_a_file(state)
    python.setstate(state["python"])
    old.set_state(state["old"])
    new.bit_generator.state = state["new"]
    torch_rng.set_state(state["torch"])
    assert same(draw(), expected)
    assert through_a_file(state["twister"])["state"]["key"].dtype == np.uint32


def test_prompt_history_comes_back() -> None:
    history, again = PromptHistory(["a", "b"]), PromptHistory(["a", "b"])
    history.observe(np.arange(4, dtype=np.uint64), np.eye(4)[:, :2], length_N=np.full(4, 7.0))
    again.load_state_dict(through_a_file(history.state_dict()))
    assert same(again.state_dict(), history.state_dict())
