"""``mrpo export`` with something wrong: one message, exit code 2, nothing written, torch not even loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("recipe: quickstart\n")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["step=newest"], "step: given 'newest', allowed: the number of a checkpoint's step, last, or best"),
        (["step=0"], "step: given 0, allowed"),
        (["step=true"], "step: given True, allowed"),
        (["model.path=a"], "export: given model.path=a, allowed: step=N, step=last or step=best"),
        (["last"], "override: given 'last', allowed: key=value"),
        (["--dtype", "bfloat"], "--dtype: unknown name 'bfloat'. Did you mean 'bfloat16'?"),
        (["--dtype", "float16"], "Allowed: bfloat16, float32"),
        (["--shard-size", "5"], "--shard-size: given 5, allowed: a whole number of KB, MB, GB or TB"),
        (["--shard-size", "0GB"], "--shard-size: given 0GB"),
    ],
)
def test_it_says_what_is_wrong(run: Path, arguments: list[str], tells: str) -> None:
    with pytest.raises(ConfigError) as refused:
        invoke(["export", str(run), "--out", str(run.parent / "model"), *arguments])
    assert tells in str(refused.value)
    assert not (run.parent / "model").exists()


def test_what_exists_is_not_overwritten(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"exists\. Allowed: a new folder"):
        invoke(["export", str(run), "--out", str(run)])


def test_a_run_and_a_folder_must_be_given(run: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        invoke(["export", str(run)])
    with pytest.raises(ConfigError, match="nowhere"):
        invoke(["export", str(run.parent / "nowhere"), "--out", "model"])
    (run / "config.yaml").rename(run / "events.jsonl")
    with pytest.raises(ConfigError, match=r"holds no config\.yaml"):
        invoke(["export", str(run), "--out", "model"])
