"""Whatever the operating system has against a run folder is one sentence, before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mrpo.cli._train import _folder
from mrpo.config.checked_run import CheckedRun
from mrpo.driver.attempt import _failure
from mrpo.errors import ConfigError, usable
from mrpo.record import jsonl
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, or plays another user: takes root")


@pytest.fixture(scope="module")
def run() -> CheckedRun:
    return CheckedRun.load(["recipe=quickstart"])


def claim(run: CheckedRun, run_dir: str) -> None:
    """What ``mrpo train`` does with a run folder first."""
    given = replace(run, config=run.config.model_copy(update={"run_dir": run_dir}))
    with usable("run_dir", run_dir):
        folder = _folder(given)
    with folder.claim():
        pass


@pytest.mark.parametrize(
    "run_dir",
    ["file", "file/below", "loop", "loop/below", "dangling/x/../y", "x" * 300, "/proc/x", "/sys/x", "/dev/null",
     "/dev/null/x", "a\0b", "runs/latest", "odd-lock", "odd-rollouts", "odd-events.jsonl", "odd-metrics.jsonl"],
)  # fmt: skip
def test_a_run_folder_that_cannot_be_is_one_sentence(
    run: CheckedRun, run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("/nowhere/at/all")
    if run_dir.startswith("odd-"):
        Path(run_dir).mkdir()
        Path(run_dir, "config.yaml").touch()
        odd = Path(run_dir, run_dir.removeprefix("odd-"))
        odd.touch() if odd.name == "rollouts" else odd.mkdir()
    with pytest.raises(ConfigError, match=r"^run_dir: given [^\n]*\.$"):
        claim(run, run_dir)


def test_another_folder_may_be_called_as_the_link_to_the_newest_run_is(run: CheckedRun, tmp_path: Path) -> None:
    claim(run, str(tmp_path / "mine" / "latest"))
    assert (tmp_path / "mine" / "latest" / "config.yaml").is_file()


@as_root
def test_a_full_disk_is_called_one_and_the_first_message_stays(tmp_path: Path) -> None:
    """On a file system of eight pages, in a mount namespace of its own."""
    code = f"""if True:
        import sys
        from dataclasses import replace
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from pathlib import Path
        from mrpo.driver.attempt import _failure
        from mrpo.record.disk import full
        from mrpo.record.run_folder import RunFolder
        from tests.unit.cli.test_run_dir import claim
        from mrpo.config.checked_run import CheckedRun
        folder = RunFolder({str(tmp_path)!r})
        folder.event("start_controller")
        print(full(folder.path))
        with open(folder.path / "filler", "wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 512)
                except OSError:
                    break
        print(_failure(folder, ValueError("the first message")))
        try:
            claim(CheckedRun.load(["recipe=quickstart"]), {str(tmp_path / "run")!r})
        except ValueError as error:
            print(error)
    """
    mounted = f'mount -t tmpfs -o size=32k tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [
        f"{tmp_path}: its disk is full",
        "the first message",
        f"run_dir: given '{tmp_path / 'run'}', which can't be used: No space left on device.",
    ], done.stderr


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        jsonl.replace(pipe, [{"a": 1}])
        assert reader.communicate(timeout=10)[0] == b'{"a":1}\n'
    assert pipe.is_fifo()
    with pytest.raises(OSError, match="No space left"):
        jsonl.replace(Path("/dev/full"), [{"a": 1}])
    assert Path("/dev/full").is_char_device()
    with pytest.raises(IsADirectoryError):
        jsonl.replace(tmp_path, [{"a": 1}])
    assert [path.name for path in tmp_path.parent.iterdir() if path.name.startswith(f".{tmp_path.name}")] == []


def test_a_failure_names_what_failed_where_the_disk_has_room(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.event(Phase.START_CONTROLLER)
    _failure(folder, ValueError("the first message"))
    assert folder.events()[-1]["detail"] == "the first message"


@as_root
@pytest.mark.parametrize("whose", [".", "config.yaml"])
def test_the_run_of_somebody_else_is_a_program(tmp_path: Path, whose: str) -> None:
    folder = RunFolder(tmp_path)
    folder.config.touch()
    folder.require_own()
    os.chown(tmp_path / whose, 65534, 65534)
    with pytest.raises(ConfigError, match=r"belongs to user 65534, and evaluating it imports .* or --trust"):
        folder.require_own()
