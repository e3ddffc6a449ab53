"""What a grid's cells, one after another on this machine, start once: the imports of their libraries, and Ray.

Each cell's fork server is forked from one that has imported, and each is a job of its own on the Ray that is there.
Where cells would import with different variables in their environment, which libraries read as they are loaded, each
starts for itself; and so it does if what was shared is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mrpo.driver.environment import environment
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.private_folder import PrivateFolder, remove_left_behind, temporary_folder

if TYPE_CHECKING:
    from mrpo.compare.sweep import Planned

OF_A_RUN = ("TENSORBOARD_DIR", "WANDB_DIR")
"""What of a run's environment differs from cell to cell, and no library reads as it is loaded."""


@contextmanager
def shared_start(planned: Sequence[Planned], log: Path) -> Iterator[bool]:
    """While this is entered, commands that train find the libraries imported and Ray started. Yields whether they do.

    Args:
        log: gets what the processes behind it print.
    """
    to_run = [one for one in planned if one.state != "done"]
    variables = shared_variables(to_run)
    if variables is None:
        yield False
        return
    from mrpo.driver.ray_node import shared_node, slots_on_cpu  # Ray's import takes a second

    slots = [slots_on_cpu(one.checked.config) for one in to_run]
    remove_left_behind(temporary_folder())
    private = PrivateFolder()
    try:
        server = ForkServer(private.path, log, variables, with_ray=())
        server.serve({})
        try:
            with shared_node(private, {name: max(of[name] for of in slots) for name in slots[0]}, variables, log):
                yield True
        finally:
            server.stop()
    finally:
        private.remove()


def shared_variables(planned: Sequence[Planned]) -> dict[str, str] | None:
    """The environment in which all of these cells import; None if they don't, or if there is nothing to share."""
    found: list[dict[str, str]] = []
    for one in planned:
        trainer, device = one.checked.config.trainer, one.checked.device.verl_name
        if device != "cpu" or not trainer.fork_workers or trainer.ray != "own":
            return None
        untracked = one.checked.config.model_copy(update={"trainer": trainer.model_copy(update={"logger": []})})
        of_run = environment(untracked, device, one.folder)
        found.append({name: value for name, value in of_run.items() if name not in OF_A_RUN})
    return found[0] if len(found) > 1 and all(other == found[0] for other in found) else None
