"""Files of a model that are on this machine, whether its path is a folder or a name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path


def find_model_file(model: str, name: str) -> Path | None:
    """The file ``name`` of ``model``, from its folder or from the hub's local cache; None if it isn't here."""
    folder = Path(model).expanduser()
    if folder.exists():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(model, name)
    except ValueError:  # no name that the hub could have
        return None
    return Path(cached) if isinstance(cached, str) else None
