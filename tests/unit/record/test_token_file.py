"""Tokens of a few rollouts: what goes in comes out, and a damaged file is an error that names it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.observe import TOKEN_BYTES
from mrpo.record import token_file
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.run_folder import RunFolder
from mrpo.record.token_file import RolloutTokens

pytestmark = pytest.mark.unit

NUMBERS = st.floats(-100, 100)
TOKENS = st.lists(st.tuples(st.text(max_size=4), NUMBERS, NUMBERS, st.booleans()), max_size=6)


@settings(deadline=None, max_examples=30)
@given(st.lists(TOKENS, max_size=4))
def test_tokens_come_back_as_they_were_to_four_digits(rollouts: list[list[tuple[str, float, float, bool]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "1.jsonl.gz")
        columns = [list(zip(*tokens, strict=True)) or [()] * 4 for tokens in rollouts]
        token_file.write(path, [RolloutTokens(*of).record("p", n) for n, of in enumerate(columns)])
        found = list(token_file.read(path))
    assert [(one["uid"], one["sample"]) for one in found] == [("p", n) for n in range(len(rollouts))]
    for one, tokens in zip(found, rollouts, strict=True):
        assert list(zip(one["pieces"], map(bool, one["in_loss"]), strict=True)) == [(t[0], t[3]) for t in tokens]
        assert one["log_probs"] == pytest.approx([t[1] for t in tokens], rel=5e-4, abs=1e-300)
        assert one["advantages"] == pytest.approx([t[2] for t in tokens], rel=5e-4, abs=1e-300)


def a_record(sample: int = 0) -> dict[str, object]:
    return RolloutTokens(["a", "b"], [-1.0, -2.0], [0.5, 0.5], [True, False]).record("p", sample)


def test_a_step_that_is_run_again_never_keeps_tokens_of_other_rollouts(tmp_path: Path) -> None:
    folder, row = RunFolder(tmp_path), {"uid": "p", "sample": 0, "rewards": {}}
    folder.write_rollouts(1, [row], [a_record()])
    assert [one["sample"] for one in token_file.read(folder.tokens_file(1))] == [0]
    folder.write_rollouts(1, [row])
    assert list(token_file.read(folder.tokens_file(1))) == []
    assert folder.rollout_steps() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(json.dumps(a_record()).encode() + b"\n")[:-9], r"1\.jsonl\.gz: damaged"),
        (b"plain text\n", r"1\.jsonl\.gz: damaged: Not a gzipped file"),
        (gzip.compress(b"[]\n"), r"1\.jsonl\.gz:1: not a JSON object"),
        (gzip.compress(b'{"uid": "p", "sample": 0}\n'), r"1\.jsonl\.gz:1: lacks pieces, log_probs"),
        (gzip.compress(json.dumps(a_record() | {"in_loss": [1]}).encode()), r"gz:1: .* not lists of the same length"),
        (gzip.compress(json.dumps(a_record() | {"pieces": "ab"}).encode()), r"gz:1: .* not lists of the same length"),
    ],
    ids=["cut", "plain", "a list", "lacks", "one of them", "a text"],  # the bytes have the time in them
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(content)
    with pytest.raises(CorruptLineError, match=message):
        list(token_file.read(tmp_path / "1.jsonl.gz"))


def test_a_token_takes_about_as_much_as_is_said(tmp_path: Path) -> None:
    import random

    draw = random.Random(0)
    words = [f" {draw.choice('abcdefghijklmnopqrstuvwxyz')}{n}" for n in range(2000)]
    pieces = [words[min(int(draw.paretovariate(0.6)) - 1, 1999)] for _ in range(4000)]
    logs = [-draw.expovariate(1.5) for _ in pieces]
    advantages = [0.7 * (1 + 0.1 * draw.random()) for _ in pieces]  # as token modulation leaves them: no two the same
    token_file.write(tmp_path / "1.gz", [RolloutTokens(pieces, logs, advantages, [True] * 4000).record("p", 0)])
    token_file.write(tmp_path / "2.gz", [RolloutTokens(pieces, logs, [0.7] * 4000, [True] * 4000).record("p", 0)])
    sizes = [(tmp_path / name).stat().st_size / 4000 for name in ("1.gz", "2.gz")]
    assert TOKEN_BYTES / 4 < min(sizes) <= max(sizes) < TOKEN_BYTES
