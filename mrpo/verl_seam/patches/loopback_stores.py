"""torch 2.13's TCPStore listens on every address of a machine, whatever host it is given: here, on loopback where that
is its host. Through a store the ranks find each other, and it asks nobody who he is.
"""

import importlib
import socket
from ipaddress import ip_address
from typing import Any

from torch.distributed import TCPStore


def apply() -> None:
    module: Any = importlib.import_module("torch.distributed.rendezvous")  # its package has a function of that name
    module.TCPStore = loopback_store


def loopback_store(host_name: str, port: int, *, is_master: bool = False, **named: Any) -> TCPStore:
    """``TCPStore(host_name, port, …)`` that can be reached from where ``host_name`` says, and from nowhere else."""
    if is_master and is_loopback(host_name) and "master_listen_fd" not in named:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(2048)
            port = listener.getsockname()[1]
            named["master_listen_fd"] = listener.detach()
        except OSError:  # this process has a store on that port already, which torch shares
            listener.close()
    return TCPStore(host_name, port, is_master=is_master, **named)


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("192.0.2.2")
    (True, True, False)
    """
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
