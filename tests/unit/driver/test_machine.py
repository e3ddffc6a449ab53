"""A Ray that doesn't answer and a temporary folder that won't do are a sentence each, within seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mrpo.config.load import load_run_config
from mrpo.driver import private_folder
from mrpo.driver.machine import require_answer, require_machine
from mrpo.driver.private_folder import PrivateFolder, require_usable
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which takes root")


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["", "auto", "local", "ray://10.0.0.1:10001", "10.0.0.1", "10.0.0.1:x", ":6379"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: .* allowed with trainer\.ray=join: HOST:PORT"):
        require_answer(address)


def test_nobody_and_somebody_else_are_told_apart(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"given 127\.0\.0\.1:1, where no Ray answers \(Connection refused\)"):
        require_answer("127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"something listens that isn't Ray"):
        require_answer(silent, seconds=0.5)
    with pytest.raises(ConfigError, match=r"no Ray answers"):
        require_answer("nowhere.invalid:6379", seconds=2)
    assert time.monotonic() - began < 30


def test_a_server_of_rays_protocol_is_taken() -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        require_answer(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()


def test_a_run_of_its_own_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    require_machine(load_run_config(["recipe=quickstart"])[0])
    with pytest.raises(ConfigError, match="Connection refused"):
        require_machine(load_run_config(["recipe=quickstart", "trainer.ray=join"])[0])


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@as_root
@pytest.mark.parametrize(
    ("mounted", "message"),
    [("noexec,size=500m", "is mounted noexec"), ("size=20m", "where 20 MiB are free. Allowed: a folder with 128 MiB")],
    indirect=["mounted"],
)
def test_a_temporary_folder_that_wont_do_is_named(mounted: Path, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(mounted))
    with pytest.raises(
        ConfigError, match=f"TMPDIR: given {mounted}, {'which ' if 'noexec' in message else ''}{message}"
    ):
        PrivateFolder(mounted)
    assert list(mounted.iterdir()) == []
    monkeypatch.delenv("TMPDIR")
    with pytest.raises(ConfigError, match=f"TMPDIR: not set, so {mounted} is used"):
        require_usable(mounted)


def test_room_is_what_is_free_to_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status: Any = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize >> 20
    monkeypatch.setattr(private_folder, "MIN_FREE_MIB", free - 10_000)
    require_usable(tmp_path)
    monkeypatch.setattr(private_folder, "MIN_FREE_MIB", free + 10_000)
    with pytest.raises(ConfigError, match="MiB are free"):
        require_usable(tmp_path)
