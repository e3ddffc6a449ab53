"""``mrpo evaluate`` with something wrong: one message, exit code 2, nothing started."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

CONFIG = """
recipe: quickstart
model: {path: policy}
data: {train_files: [a.parquet], val_files: [nowhere.parquet], train_batch_size: 4}
rewards: {short: {function: "rewards.py:short"}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "config.yaml").write_text(CONFIG.replace("a.parquet", str(tmp_path / "a.parquet")))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["step"], "override: given 'step', allowed: key=value"),
        (["step=last"], "step: given 'last', allowed: the number"),
        (["trainer.nnods=2"], "Did you mean 'nnodes'?"),
        ([], r"data.val_files\[0\]: no such file: nowhere.parquet"),
    ],
)
def test_it_says_what_is_wrong(run: Path, arguments: list[str], tells: str) -> None:
    with pytest.raises(ConfigError, match=tells):
        invoke(["evaluate", str(run), *arguments])


def test_a_run_without_a_checkpoint_has_nothing_to_evaluate(run: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        invoke(["evaluate", str(run), f"data.val_files=[{run / 'a.parquet'}]"])
    assert not (run / "evaluations").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        invoke(["evaluate", str(tmp_path / "nowhere")])
