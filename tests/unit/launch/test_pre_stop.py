"""Before a pod ends: the head's run is asked to save and waited for, and workers stay until the head is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mrpo.launch import pre_stop

pytestmark = pytest.mark.unit

SAVES = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open(sys.argv[0] + ".saved", "w").close()
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
open(sys.argv[0] + ".ready", "w").close()
time.sleep(60)
"""


def test_the_head_asks_mrpo_train_to_save_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mrpo"
    program.write_text(SAVES)
    process = subprocess.Popen([sys.executable, str(program), "train", "recipe=some"])
    bystander = subprocess.Popen(
        [
            "sleep",
            "60",
        ]
    )
    try:
        wait_for(tmp_path / "mrpo.ready")
        found = pre_stop.training_processes()
        assert process.pid in [p.pid for p in found]
        assert bystander.pid not in [p.pid for p in found]
        monkeypatch.setattr(pre_stop, "training_processes", lambda: [p for p in found if p.pid == process.pid])
        monkeypatch.setenv("MRPO_GRACE_SECONDS", "30")
        assert pre_stop.main(["head"]) == 0
        assert (tmp_path / "mrpo.saved").exists()
    finally:
        process.kill()
        bystander.kill()


def test_a_worker_stays_until_the_head_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    head = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("FQ_RAY_IP", "127.0.0.1")
    monkeypatch.setenv("RAY_PORT", str(head.getsockname()[1]))
    monkeypatch.setenv("MRPO_GRACE_SECONDS", "30")
    threading.Timer(0.5, head.close).start()
    start = time.monotonic()
    assert pre_stop.main(["worker"]) == 0
    assert 0.5 <= time.monotonic() - start < 20


def test_but_no_longer_than_the_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("FQ_RAY_IP", "127.0.0.1")
        monkeypatch.setenv("RAY_PORT", str(head.getsockname()[1]))
        monkeypatch.setenv("MRPO_GRACE_SECONDS", "0")
        assert pre_stop.main(["worker"]) == 1


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
