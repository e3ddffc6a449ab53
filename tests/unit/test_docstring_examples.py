"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest

pytestmark = pytest.mark.unit

MODULES = (
    "mrpo.advantages.compute",
    "mrpo.advantages.token_modulation",
    "mrpo.advantages.tokens",
    "mrpo.cli._app",
    "mrpo.cli.audit",
    "mrpo.config.checked_run",
    "mrpo.config.flatten",
    "mrpo.config.overrides",
    "mrpo.config.recipes",
    "mrpo.errors",
    "mrpo.evaluation.statistics",
    "mrpo.prepare.download",
    "mrpo.prepare.rows",
    "mrpo.resources",
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_show_what_happens(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
