"""Owners of state that must survive a kill, each registered once, by name. What isn't registered doesn't survive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state

_SUFFIX = ".npz"


class Owner(Protocol):
    """Anything that can say all it has to remember, as plain values (``plain.save_state``), and take it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


class Owners:
    """The owners of a run, each saved in a file of its own."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}

    def register(self, name: str, owner: Owner) -> None:
        """Enter ``owner``. Raises ValueError if the name is taken, or isn't made of letters, digits and underscores."""
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(f"owner {name!r}: a name is made of letters, digits and underscores")
        if name in self._owners:
            raise ValueError(f"owner {name!r} is registered already")
        self._owners[name] = owner

    def names(self) -> list[str]:
        return sorted(self._owners)

    def states(self) -> dict[str, dict[str, Any]]:
        """Everyone's state as it is now, by name."""
        return {name: owner.state_dict() for name, owner in self._owners.items()}

    def save(self, folder: Path, states: Mapping[str, dict[str, Any]]) -> None:
        """Write ``states``, which ``states()`` gave at some time, into ``folder``, which is made.

        Raises:
            TypeError: as ``save_state`` does.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            save_state(folder / f"{name}{_SUFFIX}", state)

    def load(self, folder: Path) -> None:
        """Give everyone their state back. Nobody gets any before all of it has been read.

        Raises:
            CheckpointError: an owner has no state in ``folder``, or a state has no owner.
        """
        saved = {file.stem for file in folder.glob(f"*{_SUFFIX}")}
        without_state = sorted(self._owners.keys() - saved)
        without_owner = sorted(saved - self._owners.keys())
        if without_state or without_owner:
            problems = [f"{name} has no saved state" for name in without_state]
            problems += [f"{name} is saved and nobody here owns it" for name in without_owner]
            raise CheckpointError(f"{folder}: {'; '.join(problems)}")
        states = {name: load_state(folder / f"{name}{_SUFFIX}") for name in self._owners}
        for name, owner in self._owners.items():
            owner.load_state_dict(states[name])
