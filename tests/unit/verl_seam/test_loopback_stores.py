"""A process group of one machine listens where only this machine reaches it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

LISTENS = """
import psutil, sys, torch.distributed as dist
from mrpo.verl_seam.patches import loopback_stores
loopback_stores.apply()
dist.init_process_group("gloo")
dist.barrier()
print({c.laddr.ip for c in psutil.Process().net_connections() if c.status == "LISTEN"})
"""


def test_the_store_of_a_process_group_on_loopback_cannot_be_reached_from_elsewhere() -> None:
    with_port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
    environment = os.environ | with_port | {"GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-c", LISTENS], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "{'127.0.0.1'}\n", done.stderr
