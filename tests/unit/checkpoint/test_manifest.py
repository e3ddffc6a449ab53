"""The manifest says what a checkpoint is, and notices every change to itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.checkpoint import manifest as manifests
from mrpo.checkpoint.files import FileRecord, measure
from mrpo.checkpoint.manifest import CheckpointError, Manifest, decode, encode, packages

pytestmark = pytest.mark.unit


def some(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "step": 12,
        "created": "2026-01-31T12:00:00+00:00",
        "attempt": 2,
        "packages": {"torch": "2.13.0"},
        "metrics": {"reward/total/mean": 0.1 + 0.2},
        "files": {"actor/model.bin": FileRecord(size=3, checksum="ab")},
        "extra": {"config": {"seed": 0, "names": ["a", "ü%s"]}},
    }
    return Manifest.model_validate(fields | changes)


def test_manifest_is_json_and_comes_back() -> None:
    assert decode(encode(some())) == some()
    assert json.loads(encode(some()))["manifest"]["step"] == 12


def test_every_flipped_bit_is_noticed() -> None:
    raw = encode(some())
    for i in range(len(raw)):
        for bit in range(8):
            with pytest.raises(CheckpointError, match="is damaged"):
                decode(raw[:i] + bytes([raw[i] ^ 1 << bit]) + raw[i + 1 :])


def test_every_truncation_is_noticed() -> None:
    raw = encode(some())
    for length in range(len(raw)):
        with pytest.raises(CheckpointError, match="is damaged"):
            decode(raw[:length])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_anything_else_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(CheckpointError):
        decode(raw)


def test_other_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(CheckpointError, match="format 2, this mrpo reads 1"):
        decode(encode(some(version=2)))


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../b", "a//b", "", ".", "manifest.json"])
def test_path_that_leaves_the_checkpoint_is_refused(name: str) -> None:
    raw = encode(some().model_copy(update={"files": {name: FileRecord(size=0, checksum="")}}))
    with pytest.raises(CheckpointError, match="is not the path"):
        decode(raw)


def test_extra_that_is_not_plain_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(some(extra={"loss": float("nan")}))


def test_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        manifests.read(tmp_path)


def test_versions_name_what_is_installed() -> None:
    assert {"python", "mrpo", "torch", "verl"} <= packages().keys()


def test_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert measure(tmp_path, ["a"], durable=True) == {"a": FileRecord(size=3, checksum=expected)}
