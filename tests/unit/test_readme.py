"""README shows the step as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import mrpo.step.step

pytestmark = pytest.mark.unit


def test_the_drawing_in_readme_is_the_one_on_top_of_the_step() -> None:
    docstring = mrpo.step.step.__doc__ or ""
    drawing = docstring.partition("::\n\n")[2].partition("\n\nThe loop on the left")[0]
    assert len(drawing.splitlines()) > 15
    assert f"```\n{drawing}\n```" in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
