"""Whatever is in a file or on the command line: a result, or one message of the project's, soon, and nothing left.

``make fuzz`` draws many more examples, and keeps what it found in ``.hypothesis``.
"""

from __future__ import annotations

import io
import json
import os
import string
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mrpo.checkpoint import manifest
from mrpo.cli._responses import read_rows
from mrpo.config.checked_run import CheckedRun
from mrpo.config.load import load_run_config
from mrpo.config.overrides import override, parse
from mrpo.errors import MrpoError
from mrpo.launch.cluster_file import load_any_cluster
from mrpo.record.jsonl import Tail
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))
SECONDS = 10.0
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

RECIPE = """
model: {path: some/model}
data: {train_files: [data.parquet], val_files: [data.parquet], train_batch_size: 4}
rewards: {short: {function: "rewards.py:short", range: [0, 1]}}
algorithm: {estimator: gdpo}
budget: {rollouts_per_prompt: 8}
trainer: {total_training_steps: 50}
"""
CLUSTER = "trainer: {nodes: 2, memory: 64G, options: [--qos=x]}\nenv: {A: b}\nlogs: logs\ntime: '24:00:00'\n"
ROW = {"prompt": "a", "response": "b", "ground_truth": "c", "extra_info": {"k": 1}, "uid": "u", "step": 1}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**30, 10**40), st.floats(), st.text(max_size=8),
    st.sampled_from(["${prepared:}", "${oc.env:HOME}", "~nobody/x", "../../etc/passwd:x", "os:system", "\0", "\ud800"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
ODD = (
    "[" * 3000,
    "{a: " * 3000,
    "a: &a [*a]",
    "- " * 500 + "x",
    "\xff\xfe",
    "defaults: [config, _self_]",
    "a: 1\na: 2",
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file that was right, with a piece replaced, or any bytes."""
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    piece = draw(st.one_of(st.binary(max_size=6), st.sampled_from([text.encode("latin-1") for text in ODD])))
    return draw(st.sampled_from([whole[:start] + piece + whole[end:], piece, whole]))


@st.composite
def changed(draw: st.DrawFn, content: dict[str, Any]) -> dict[str, Any]:
    """A mapping that was right, with one value of it, at any depth, replaced."""
    content = json.loads(json.dumps(content))
    place: Any = content
    while True:
        key = draw(st.sampled_from(sorted(place)) if place else st.just("key"))
        if not isinstance(place.get(key), dict) or draw(st.booleans()):
            place[key] = draw(values)
            return content
        place = place[key]


@contextmanager
def one_message() -> Iterator[None]:
    began = time.process_time()
    try:
        yield
    except MrpoError as error:
        if not str(error).strip():
            raise
    assert time.process_time() - began < SECONDS


def recipe(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_bytes(content)
        with one_message():
            load_run_config([override("recipe", folder)])
        assert sorted(os.listdir(folder)) == ["config.yaml"]


def as_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


def cluster(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cluster.yaml").write_bytes(content)
        with one_message():
            load_any_cluster(str(Path(folder, "cluster.yaml")))


def rows(content: bytes, suffix: str = ".jsonl") -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows").with_suffix(suffix)
        file.write_bytes(content)
        with one_message():
            list(read_rows(file))


def parquet(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame([content]).to_parquet(buffer)
    return buffer.getvalue()


def events(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        run.events_file.write_bytes(content)
        run.metrics_file.write_bytes(content)
        with one_message():
            run.events()
        with one_message():
            Tail(run.metrics_file, required=("step", "time")).poll()


def sealed_manifest(content: bytes) -> None:
    with one_message():
        manifest.decode(manifest._sealed(content))
    with one_message():
        manifest.decode(content)


MANIFEST: dict[str, Any] = {
    "version": 1, "step": 4, "created": "now", "attempt": 1, "packages": {"mrpo": "1"}, "metrics": {"a": 1.0},
    "files": {"actor/x": {"size": 1, "checksum": "00"}}, "extra": {},
}  # fmt: skip
LINE = json.dumps({"time": 1.0, "phase": "plan", "step": 1, "detail": ""}).encode() + b"\n"


@fuzz
@given(st.one_of(damaged(RECIPE.encode()), changed(yaml.safe_load(RECIPE)).map(as_yaml)))
@example(b"defaults: [config, _self_]")
@example(b"seed: .nan\n" + RECIPE.encode())
@example(b"a: " + b"[" * 1500)
def test_a_recipe_of_any_content(content: bytes) -> None:
    recipe(content)


@fuzz
@given(st.one_of(damaged(CLUSTER.encode()), changed(yaml.safe_load(CLUSTER)).map(as_yaml)))
@example(b"\xff")
@example(b"[" * 1500)
def test_a_clusters_file_of_any_content(content: bytes) -> None:
    cluster(content)


@fuzz
@given(st.one_of(damaged(json.dumps(ROW).encode() + b"\n"), changed(ROW).map(lambda row: json.dumps(row).encode())))
@example(b'{"prompt": ' + b"[" * 100_000)
@example(b'{"prompt": 1, "responses": [], "ground_truth": 1}')
@example(b'{"prompt": 1, "response": "x", "ground_truth": 1, "extra_info": "s"}')
def test_json_lines_of_any_content(content: bytes) -> None:
    rows(content)


@fuzz
@given(damaged(parquet(ROW)))
def test_a_parquet_file_of_any_content(content: bytes) -> None:
    rows(content, ".parquet")


@fuzz
@given(st.one_of(damaged(json.dumps(MANIFEST).encode()), changed(MANIFEST).map(lambda c: json.dumps(c).encode())))
def test_a_manifest_of_any_content(content: bytes) -> None:
    sealed_manifest(content)


@fuzz
@given(damaged(LINE * 2))
def test_events_of_any_content(content: bytes) -> None:
    events(content)


@fuzz
@given(st.one_of(st.text(string.printable, max_size=30), st.text(max_size=10).map("trainer.project_name={}".format)))
@example("a=" + "[" * 2000)
@example("a=" + "1" * 5000)
@example("a=\0")
def test_an_override_of_any_letters(text: str) -> None:
    with one_message():
        parse(text)


@pytest.mark.parametrize(
    "setting",
    ["seed=abc", "seed=nan", "seed=1e400", "seed=${oc.env:HOME}", "rewards.short.function='../../../etc/passwd:x'",
     "rewards.short.function='os:system'", "prepare=\"'\"", "model.path=''"],
)  # fmt: skip
def test_a_setting_that_no_run_can_have(setting: str) -> None:
    with pytest.raises(MrpoError):
        CheckedRun.load(["recipe=quickstart", setting.replace("rewards.short", "rewards.correct")])


@pytest.mark.parametrize("given_recipe", ["loop", "x" * 5000, "~nobody-here/x", "a\0b", "loop/config"])
def test_a_recipe_that_no_folder_has(given_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MrpoError, match="recipe"):
        load_run_config([override("recipe", given_recipe)])
