"""Where the platform isn't the CPU, the plugin leaves alone what only the CPU needs, and does all the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

LOADED = """
import importlib.metadata, json, logging
unpatched = importlib.metadata.version
import mrpo.verl_seam.plugin as plugin
from verl.plugin.platform import get_platform
import torch.distributed.rendezvous, zmq.sugar.socket, sys
log = logging.getLogger("verl.trainer.ppo.v1.trainer_separate_async")
log.setLevel("INFO")
log.info("as verl's separate trainer says it", flush=True)
print(json.dumps({
    "failure": repr(plugin.failure),
    "platform": type(get_platform()).__name__,
    "device": get_platform().device_name,
    "name of vLLM's wheel is answered for": importlib.metadata.version is not unpatched,
    "sockets": zmq.sugar.socket.Socket.bind.__module__,
    "of a CPU": sorted(name for name in sys.modules if name.startswith("mrpo.verl_seam.cpu.")),
}))
"""


def test_a_platform_that_is_cuda_gets_nothing_of_what_only_a_cpu_needs() -> None:
    variables = os.environ | {"VERL_PLATFORM": "nvidia"}
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "failure": "None",
        "platform": "PlatformCUDA",
        "device": "cuda",
        "name of vLLM's wheel is answered for": False,
        "sockets": "mrpo.verl_seam.patches.private_names",
        "of a CPU": ["mrpo.verl_seam.cpu.platform"],
    }
