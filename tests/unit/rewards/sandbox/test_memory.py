"""Groups that limit memory: where one can be made, and that it is gone afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mrpo.rewards.sandbox import memory

pytestmark = pytest.mark.unit

MOUNT = "30 1 0:27 {} {} rw,nosuid shared:5 - {} {} rw{}"


def test_version_1_has_a_group_of_its_own_for_memory() -> None:
    groups = "5:cpu,cpuacct:/a\n4:memory:/docker/x/y\n0::/\n"
    mounts = "\n".join(
        [
            MOUNT.format("/", "/sys/fs/cgroup/cpu", "cgroup", "cgroup", ",cpu,cpuacct"),
            MOUNT.format("/docker/x", "/sys/fs/cgroup/memory", "cgroup", "cgroup", ",memory"),
        ]
    )
    assert list(memory.candidates(groups, mounts)) == [Path("/sys/fs/cgroup/memory/y")]


def test_version_2_offers_the_groups_above_this_process_that_hand_memory_on(tmp_path: Path) -> None:
    for folder, controllers in (("", "memory"), ("user", "cpu memory"), ("user/app", "cpu pids"), ("user/app/own", "")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cgroup.subtree_control").write_text(controllers + "\n")
    mount = MOUNT.format("/", tmp_path, "cgroup2", "cgroup2", "")
    assert list(memory.candidates("0::/user/app/own\n", mount)) == [tmp_path / "user", tmp_path]
    assert list(memory.candidates("0::/../elsewhere\n", mount))[-1:] == [tmp_path]


def test_without_control_groups_there_is_none() -> None:
    assert list(memory.candidates("", MOUNT.format("/", "/", "ext4", "/dev/sda", ""))) == []


def test_a_folder_that_is_no_group_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="memory can't be limited"):
        memory.make(tmp_path, 1 << 20)
    assert os.listdir(tmp_path) == []


def test_a_group_ends_with_its_last_process() -> None:
    folder = memory.parent_group()
    if folder is None:
        pytest.skip("no memory control group can be made here")
    group = memory.make(folder, 1 << 26)
    with subprocess.Popen(["/bin/sh", "-c", memory.JOIN, str(group), "sleep", "60"]) as process:
        while str(process.pid) not in (group / "cgroup.procs").read_text().split():
            pass
        memory.remove(group, seconds=0)
        assert group.exists()
        process.kill()
        memory.remove(group)
    assert not group.exists()
    memory.remove(group)
    group = memory.make(folder, 1 << 26)
    memory.remove_old(folder)
    assert group.exists()
    memory.remove_old(folder, seconds=-1)
    assert not group.exists()


@pytest.mark.parametrize(
    ("files", "written"),
    [
        (["memory.max", "memory.swap.max", "cgroup.procs"], {"memory.max": "4096", "memory.swap.max": "0"}),
        (["memory.max"], {"memory.max": "4096"}),
        (
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            {"memory.limit_in_bytes": "4096", "memory.memsw.limit_in_bytes": "4096"},
        ),
    ],
    ids=["version 2", "version 2 without swap", "version 1"],
)
def test_a_group_gets_its_limit_in_the_files_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], written: dict[str, str]
) -> None:
    """The files are the kernel's, which a folder of the disk gets here from the test."""

    def as_the_kernel_makes_it(prefix: str, dir: Path) -> str:
        group = dir / f"{prefix}x"
        group.mkdir()
        for name in files:
            (group / name).touch()
        return str(group)

    monkeypatch.setattr(memory.tempfile, "mkdtemp", as_the_kernel_makes_it)
    group = memory.make(tmp_path, 4096)
    assert group == tmp_path / "mrpo-sandbox-x"
    assert {file.name: text for file in group.iterdir() if (text := file.read_text())} == written


def test_the_line_that_joins_a_group_writes_the_process_that_becomes_the_command(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", memory.JOIN, str(tmp_path), "/bin/sh", "-c", "echo $$"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "cgroup.procs").read_text() == done.stdout
