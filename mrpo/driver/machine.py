"""What this machine must have before a run's processes start: a temporary folder for them, and the Ray that it joins.

Asked first, so that what would keep Ray waiting for minutes, or fail with its words, is a sentence within seconds.
"""

from __future__ import annotations

import os
import socket

from mrpo.config.run import RunConfig
from mrpo.driver.private_folder import require_usable, temporary_folder
from mrpo.errors import ConfigError

SECONDS = 10.0
"""How long an answer is waited for."""


def require_machine(config: RunConfig, seconds: float = SECONDS) -> None:
    """
    Raises:
        ConfigError: the temporary folder can't hold the run's, or no Ray answers where the run is to join one.
    """
    require_usable(temporary_folder())
    if config.trainer.ray == "join":
        require_answer(os.environ.get("RAY_ADDRESS", ""), seconds)


def require_answer(address: str, seconds: float = SECONDS) -> None:
    """Raises ConfigError if no Ray answers at ``address``, HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        given = f"given {address!r}" if address else "not set"
        raise ConfigError(f"RAY_ADDRESS: {given}, allowed with trainer.ray=join: HOST:PORT. Or say trainer.ray=own.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except (OSError, OverflowError) as error:
        raise _unanswered(address, getattr(error, "strerror", None) or str(error)) from None
    import grpc  # Ray's own way to talk

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise _unanswered(address, "something listens that isn't Ray") from None


def _unanswered(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"RAY_ADDRESS: given {address}, where no Ray answers ({why}). Allowed with trainer.ray=join: the address of "
        "one that runs. Or say trainer.ray=own."
    )
