"""State files hold nothing that could run, and say what they can't hold."""

from __future__ import annotations

import enum
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state

from .test_plain import same

pytestmark = pytest.mark.unit


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"counts": [0, 1, 2, {1}]}, r"history\.counts\[3\]: can't save a set"),
        ({"a": {7: (object(),)}}, r"history\.a\[7\]\[0\]: can't save a object"),
        (np.array([None]), r"history: can't save a numpy ndarray of object"),
        ({"a": np.zeros(1, dtype=[("x", "O")])}, r"history\.a: can't save a numpy ndarray"),
        ({Colour.RED: 0}, r"history, key <Colour.RED: 1>: can't save a Colour"),
        ([OrderedDict()], r"history\[0\]: can't save a OrderedDict"),
        (Pair(1, 2), r"history: can't save a Pair"),
        (np.ma.array([1]), r"history: can't save a numpy MaskedArray"),
        (torch.nn.Parameter(torch.zeros(1)), r"history: can't save a Parameter"),
        (torch.zeros(2, 2).to_sparse(), r"history: can't save a Tensor"),
        (1j, r"history: can't save a complex"),
    ],
)
def test_other_type_is_refused_with_its_place(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save_state(tmp_path / "history.npz", state)
    assert not (tmp_path / "history.npz").exists()


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("pickle")

    state = {
        "array": np.arange(3),
        "tensor": torch.arange(3).bfloat16(),
        "python": random.getstate(),
        "word": np.str_("a"),
    }
    save_state(tmp_path / "state.npz", state)
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert same(load_state(tmp_path / "state.npz"), state)


class Bomb:
    """Unpickling it fails."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("ran",)


@pytest.mark.parametrize("name", ["tree", "0"])
def test_pickle_in_a_state_file_is_not_run(tmp_path: Path, name: str) -> None:
    parts: dict[str, Any] = {"tree": np.frombuffer(b'{"array": "0"}', dtype=np.uint8), "0": np.zeros(1)}
    np.savez(tmp_path / "state.npz", **parts | {name: np.array([Bomb()])})
    with pytest.raises(CheckpointError, match=r"state\.npz: not a state file"):
        load_state(tmp_path / "state.npz")


@pytest.mark.parametrize(
    "tree",
    [b'{"array": "7"}', b'{"code": 1}', b"{}", b"[", b'{"tensor": "0", "dtype": "load", "shape": []}', b'{"tuple": 1}'],
)
def test_tree_that_makes_no_sense_is_told(tmp_path: Path, tree: bytes) -> None:
    parts: dict[str, Any] = {"tree": np.frombuffer(tree, dtype=np.uint8), "0": np.zeros(1, dtype=np.uint8)}
    np.savez(tmp_path / "state.npz", **parts)
    with pytest.raises(CheckpointError, match="not a state file"):
        load_state(tmp_path / "state.npz")


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 torn", b"\x80\x04N."])
def test_other_file_is_told(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "state.npz").write_bytes(raw)
    with pytest.raises(CheckpointError, match="not a state file"):
        load_state(tmp_path / "state.npz")
