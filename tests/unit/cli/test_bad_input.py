"""What a user can get wrong on the command line of every command: one message, its exit code, and never a traceback."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.cli.main import main
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

CONFIG = """
recipe: quickstart
model: {path: some/model}
data: {train_files: [data.parquet], val_files: [data.parquet], train_batch_size: 4}
rewards: {short: {function: "rewards.py:short"}}
"""

BAD = [
    ("trian recipe=quickstart", 2, "unknown command 'trian'. Did you mean 'train'?"),
    ("--verison", 2, "No such option: --verison"),
    ("train", 2, "recipe: not given. Say recipe=NAME."),
    ("train quickstart", 2, "override: given 'quickstart', allowed: key=value"),
    ("train recipe=quickstart actor.learning_rate=[1e-4", 2, "override: given 'actor.learning_rate=[1e-4'"),
    ("train recipe=quickstart seed=1,2", 2, "seed: given a sweep (seed=1,2), allowed: one value"),
    ("train recipe=quickstart ~rewards.corect", 2, "rewards.corect"),
    ("train recipe=quickstart --steps 3", 2, "No such option: --steps"),
    ("train recipe=quickstart trainer.device=gpu", 2, "trainer.device: given gpu, but this machine has none"),
    ("train recipe=quickstart run_dir=data.parquet", 2, "run_dir: given 'data.parquet', which can't be used: Not"),
    ("train recipe=quickstart run_dir=data.parquet/run", 2, "run_dir: given 'data.parquet/run'"),
    ("plan recipe=quickstart cluster=nowhere.yaml", 2, "cluster: given nowhere.yaml, allowed: a YAML file"),
    ("plan recipe=quickstart cluster=5", 2, "cluster: given 5, allowed: a YAML file"),
    ("plan recipe=quickstart --ful", 2, "--full"),
    ("launch", 2, "launch: no command given. Allowed: slurm, kubernetes, local."),
    ("launch slrum recipe=quickstart", 2, "launch: unknown command 'slrum'. Did you mean 'slurm'?"),
    ("launch local recipe=quickstart cluster=slurm.yaml", 2, "cluster: given slurm.yaml, allowed with local: none"),
    ("launch slurm recipe=quickstart --dry-run shown", 2, "override: given 'shown', allowed: key=value"),
    (
        "launch slurm recipe=quickstart --dry-run --out data.parquet",
        2,
        "--out: given 'data.parquet', which can't be used: File exists",
    ),
    ("launch slurm recipe=quickstart --dry-run --out loop", 2, "--out: given 'loop', which can't be used"),
    ("launch slurm recipe=loop --dry-run", 2, "recipe: given 'loop', which can't be used"),
    ("plan recipe=quickstart cluster=loop", 2, "cluster: given loop, allowed: a YAML file"),
    ("plan recipe=quickstart cluster=binary", 2, "cluster: given binary, allowed: a YAML file"),
    ("evaluate odd step=1", 2, "config.yaml"),
    ("evaluate", 2, "target: none given"),
    ("evaluate nowhere", 2, "unknown name 'nowhere'"),
    ("evaluate mine step=soon", 2, "step: given 'soon', allowed: the number of a checkpoint's step, last or best"),
    ("evaluate mine step=7", 2, "step: given 7, allowed: the step of a checkpoint (4)"),
    ("evaluate mine step=4", 1, "step-00000004: "),
    ("evaluate mine", 1, "no checkpoint is whole"),
    ("evaluate mine trainer.nnods=2", 2, "Did you mean 'nnodes'?"),
    ("evaluate mine data.val_files=[none.parquet]", 2, "data.val_files[0]: no such file: none.parquet"),
    ("rewards", 2, "rewards: no command given. Allowed: check, list."),
    ("rewards check none.jsonl", 2, "--recipe"),
    ("rewards check none.jsonl --recipe quickstart", 2, "FILE: no such file: none.jsonl"),
    ("rewards check none.jsonl --recipe quickstart --max-failure-rate nan", 2, "--max-failure-rate"),
    ("rewards check none.jsonl --recipe quickstart --out mine", 2, "--out: given mine, allowed: a file"),
    ("rewards check none.jsonl --recipe quickstart --out no/x", 2, "--out: given no/x, allowed: a file"),
    ("rewards check none.jsonl --recipe quickstart --max-failure-rate 2", 2, "--max-failure-rate"),
    ("rewards check data.parquet --recipe quickstart --max-failure-rate some", 2, "should be a valid number"),
    ("audit", 2, "FILE"),
    ("audit none.jsonl", 2, "none.jsonl: no such file"),
    ("audit data.parquet --ranges a=0", 2, "no rollouts in it"),
    ("report nowhere", 2, "unknown name 'nowhere'"),
    ("watch mine more", 2, "more"),
    ("watch nowhere --runs mine", 2, "a name under mine"),
    ("recipes copy quickstat new", 2, "recipe: unknown name 'quickstat'. Did you mean 'quickstart'?"),
    ("recipes copy quickstart mine", 2, "mine"),
    ("recipes lst", 2, "recipes: unknown command 'lst'"),
    ("doctor now", 2, "unexpected extra argument(s) (now). See: mrpo doctor --help"),
]


@pytest.mark.parametrize(("line", "code", "message"), BAD, ids=[line for line, _, _ in BAD])
def test_a_mistake_is_one_message(
    line: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mrpo", *shlex.split(line)])
    run = RunFolder("mine")
    run.checkpoints.mkdir(parents=True)
    run.config.write_text(CONFIG)
    Path("data.parquet").touch()
    Path("loop").symlink_to("loop")
    Path("binary").write_bytes(b"\xff\xfe")
    Path("odd").mkdir()
    Path("odd", "config.yaml").write_bytes(b"\xff")
    store = CheckpointStore(run.checkpoints)
    staging = store.staging(4)
    (staging / "state").write_text("as it was")
    (store.publish(staging, 4).folder / "state").write_text("damaged!!")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main()
    out, error = capfd.readouterr()
    assert error.startswith("mrpo: ")
    assert message in error
    assert "Traceback" not in error
    assert out == ""
    assert ended.value.code == code
    assert sorted(tmp_path.rglob("*")) == before
