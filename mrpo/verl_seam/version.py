"""The one verl release this package is written for. Every patch and override below relies on its internals."""

from importlib.metadata import version

VERL_VERSION = "0.9.1"


def require_verl() -> None:
    """Raise RuntimeError, naming both versions, unless the verl that is installed is the one written for."""
    found = version("verl")
    if found != VERL_VERSION:
        raise RuntimeError(
            f"mrpo is written for verl {VERL_VERSION}, but verl {found} is installed: pip install verl=={VERL_VERSION}"
        )
