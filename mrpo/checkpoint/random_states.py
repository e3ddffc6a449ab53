"""This process's random states: torch's (CPU's, and CUDA's where it is in use), numpy's and Python's."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """The states of all generators, of values that ``plain.save_state`` takes."""
    states = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(legacy=False), "python": random.getstate()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restorable(states: dict[str, Any]) -> bool:
    """Whether this process has the generators that ``states`` are of. A GPU's can't be restored on a CPU."""
    return ("cuda" in states) == torch.cuda.is_initialized()


def require_random_states(states: Any) -> None:
    """Raises TypeError, ValueError, RuntimeError or KeyError unless they can be taken over; changes nothing."""
    torch.Generator().set_state(states["torch"])
    np.random.RandomState().set_state(states["numpy"])
    random.Random().setstate(states["python"])
    if "cuda" in states and not (torch.is_tensor(states["cuda"]) and states["cuda"].dtype == torch.uint8):
        raise TypeError("cuda: no state of a generator")


def set_random_states(states: dict[str, Any]) -> None:
    """Go on where ``random_states`` were taken."""
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def seed_of(states: dict[str, Any]) -> int:
    """A seed that only depends on ``states``: another one whenever a generator has been used in between."""
    numpy = states["numpy"]["state"]
    raw = [states["torch"].numpy().tobytes(), numpy["key"].tobytes(), repr((numpy["pos"], states["python"])).encode()]
    if "cuda" in states:
        raw.append(states["cuda"].numpy().tobytes())
    return _digest(b"".join(raw))


def seed_rank(seed: int, rank: int) -> None:
    """Seed all generators from both numbers."""
    own = _digest(f"{seed} {rank}".encode())
    torch.manual_seed(own)  # CUDA's as well
    np.random.seed(own % 2**32)
    random.seed(own)


def _digest(raw: bytes) -> int:
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") >> 1  # torch takes 63 bits
