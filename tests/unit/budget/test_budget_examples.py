"""The examples in the docstrings say what the code does."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import mrpo.budget
import mrpo.config.allocators

pytestmark = pytest.mark.unit

NAMES = [m.name for m in pkgutil.walk_packages(mrpo.budget.__path__, "mrpo.budget.")] + [
    mrpo.config.allocators.__name__
]


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), extraglobs={"np": np}).failed == 0
