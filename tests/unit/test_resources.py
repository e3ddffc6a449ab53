"""Folders that come with the package are found, and a wrong one is named."""

from __future__ import annotations

import pytest

from mrpo.errors import ConfigError
from mrpo.resources import folder

pytestmark = pytest.mark.unit


def test_recipes_and_templates_are_found_from_anywhere(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert (folder("recipes") / "quickstart" / "config.yaml").is_file()
    assert (folder("launch") / "slurm.sbatch.j2").is_file()


def test_an_unknown_folder_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'recipes'\? Allowed: launch, recipes"):
        folder("recipe")
