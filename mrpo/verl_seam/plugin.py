"""Entry point of the group ``verl.plugins``: verl imports this in every process that imports verl.

It makes the CPU platform known, keeps a run's sockets to itself, counts log lines that repeat themselves, lets verl's
separate trainer log and, where ``VERL_PLATFORM=cpu`` asks for it, gives vLLM's CPU wheel the name that verl asks for.
verl swallows an exception raised here (it logs it at debug level), so failures are kept in ``failure`` and raised again
by ``require_loaded``, which the controller and every trainer rank call before they work.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
from pathlib import Path

from mrpo.driver.fork_client import ENV
from mrpo.record import repeated

failure: BaseException | None = None


def require_loaded() -> None:
    """Raise what went wrong while the plugin was loading, if anything did."""
    if failure is not None:
        raise RuntimeError(f"mrpo's verl plugin could not be loaded: {failure}") from failure


try:
    from mrpo.verl_seam.version import require_verl

    require_verl()
    if repeated.ENV in os.environ:
        repeated.install()
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # the watchdog asks for stacks
    import mrpo.verl_seam.cpu.platform  # noqa: F401  (registers the platform)
    from mrpo.verl_seam.patches import flush_in_log_call, loopback_stores, private_names
    from mrpo.verl_seam.require_key import use_rays_token

    use_rays_token()
    loopback_stores.apply()
    private_names.apply()
    flush_in_log_call.apply()
    if os.environ.get("VERL_PLATFORM") == "cpu":
        from mrpo.verl_seam.patches import vllm_distribution_name

        vllm_distribution_name.apply()
    if ENV in os.environ:  # vLLM spawns its engine with multiprocessing: let it be forked as well
        multiprocessing.set_executable(str(Path(os.environ[ENV]).with_name("python")))
except BaseException as error:
    failure = error
    raise
