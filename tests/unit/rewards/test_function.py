"""What a reward's name in the config stands for, and how its options reach it."""

from __future__ import annotations

import asyncio
import doctest
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.function import is_async, load_function
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from mrpo.rewards.source import bare_names, file_of, library_bounds

pytestmark = pytest.mark.unit

SOURCE = """
def plain(prompt, response, ground_truth, extra, scale=1): return scale * float(response == ground_truth)
async def later(prompt, response, ground_truth, extra): return 0.5
class Counter:
    def __init__(self, start): self.count = start
    def __call__(self, prompt, response, ground_truth, extra):
        self.count += 1
        return self.count
class Later:
    async def __call__(self, prompt, response, ground_truth, extra): return 2.0
def verl(data_source, solution_str, ground_truth, extra_info=None, bonus=0):
    return {"score": bonus + (solution_str == ground_truth), "from": data_source, "row": extra_info["row"]}
async def verl_later(data_source, solution_str, ground_truth, extra_info=None, **kwargs): return kwargs
number = 3
"""
EXTRA = {"data_source": "gsm8k", "row": 7}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return tmp_path


def call(folder: Path, given: str, **options: Any) -> Any:
    return load_function(given, folder, options)([], "a", "a", EXTRA)


def test_a_file_is_executed_once(folder: Path) -> None:
    assert load_function("rewards.py:plain", folder) is load_function("rewards.py:plain", folder)


def test_a_function_gets_its_options_in_every_call(folder: Path) -> None:
    assert call(folder, "rewards.py:plain") == 1
    assert call(folder, "rewards.py:plain", scale=3) == 3


def test_a_class_is_instantiated_once_with_its_options(folder: Path) -> None:
    counter = load_function("rewards.py:Counter", folder, {"start": 5})
    assert [counter([], "", "", {}) for _ in range(2)] == [6, 7]


@pytest.mark.parametrize(("name", "expected"), [("later", 0.5), ("Later", 2.0), ("verl_later", {"k": 1})])
def test_what_is_async_stays_so(folder: Path, name: str, expected: Any) -> None:
    function = load_function(f"rewards.py:{name}", folder, {"k": 1} if name == "verl_later" else {})
    assert is_async(function)
    assert asyncio.run(function([], "a", "a", EXTRA)) == expected


def test_verls_functions_are_called_by_verls_names(folder: Path) -> None:
    assert call(folder, "rewards.py:verl", bonus=2) == {"score": 3, "from": "gsm8k", "row": 7}
    assert not is_async(load_function("rewards.py:verl", folder))


def test_verls_own_scoring_works_unchanged(folder: Path) -> None:
    function = load_function("verl.utils.reward_score:default_compute_score", folder)
    assert function([], "so #### 4", "4", {"data_source": "openai/gsm8k"}) == 1


def test_a_bare_name_is_of_the_library(folder: Path) -> None:
    assert load_function("exact_match", folder)([], "a", "a", {}) == 1
    assert {"http", "judge", "exact_match"} <= set(bare_names())


def test_a_bare_name_may_be_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = importlib.metadata.EntryPoint("mine", "json:dumps", "mrpo.rewards")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [offered] if group == "mrpo.rewards" else [])
    assert "mine" in bare_names()
    with pytest.raises(ConfigError, match="too many positional arguments; it takes"):
        load_function("mine", folder)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("exact_mach", {}, "unknown reward function 'exact_mach'. Did you mean 'exact_match'"),
        ("rewards.py:none", {}, "defines no function 'none'"),
        ("rewards.py:number", {}, "defines no function 'number'"),
        ("absent.py:plain", {}, "no such file"),
        ("rewards/plain", {}, "given 'rewards/plain', allowed: FILE.py:NAME, package.module:NAME or a name"),
        ("rewards.py:plain()", {}, "given 'rewards.py:plain\\(\\)', allowed: FILE.py:NAME or package.module:NAME"),
        ("rewards.py:plain", {"scal": 2}, "unexpected keyword argument 'scal'; it takes .*scale=1"),
        ("rewards.py:Counter", {}, "missing a required argument: 'start'"),
        ("rewards.py:verl", {"bonos": 1}, "unexpected keyword argument 'bonos'"),
        ("math:sqrt", {}, "too many positional arguments"),
    ],
)
def test_a_wrong_name_or_option_is_reported(folder: Path, given: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_function(given, folder, options)


def test_the_file_that_defines_a_function_is_found_without_executing_it(folder: Path) -> None:
    (folder / "explodes.py").write_text("raise SystemExit")
    assert file_of("explodes.py:plain", folder, "f") == folder / "explodes.py"
    assert file_of("exact_match", folder, "f").parts[-3:] == ("rewards", "library", "exact_match.py")
    assert file_of("mrpo.errors:ConfigError", folder, "f").name == "errors.py"
    with pytest.raises(ConfigError, match=r"f: no module named 'no.such'"):
        file_of("no.such:plain", folder, "f")


def test_bounds_are_the_librarys_own_and_none_where_there_are_none() -> None:
    assert library_bounds("length", {"kind": "cap", "cap": 4}) == (0.0, 1.0)
    assert library_bounds("http", {"url": ""}) is None
    assert library_bounds("rewards.py:plain", {}) is None


@pytest.mark.parametrize("name", ["function", "outcome", "scorer", "signatures", "source"])
def test_the_examples_in_docstrings_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"mrpo.rewards.{name}")).failed == 0


@pytest.mark.parametrize(
    "line",
    ["from helpers import LIMIT", "from .helpers import LIMIT", "from .sub.more import LIMIT", "from sub import LIMIT"],
)
def test_a_file_may_import_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    recipe = tmp_path / "recipe"
    (recipe / "sub").mkdir(parents=True)
    (recipe / "helpers.py").write_text("LIMIT = 7")
    (recipe / "sub" / "__init__.py").write_text("from .more import LIMIT")
    (recipe / "sub" / "more.py").write_text("from helpers import LIMIT")
    (recipe / "rewards.py").write_text(f"{line}\ndef limit(prompt, response, truth, extra): return LIMIT")
    monkeypatch.chdir("/")
    rewards = {"limit": RewardConfig(function="rewards.py:limit")}

    async def score() -> dict[str, Outcome]:
        async with Scorer(rewards, recipe) as scorer:
            return await scorer.score([], "", None, {})

    assert asyncio.run(score()) == {"limit": Outcome(7.0)}


def test_a_module_may_be_of_a_package_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reward_lib" / "text").mkdir(parents=True)
    (tmp_path / "my_reward_lib" / "__init__.py").write_text("")
    (tmp_path / "my_reward_lib" / "limits.py").write_text("LIMIT = 7")
    (tmp_path / "my_reward_lib" / "text" / "__init__.py").write_text("")
    (tmp_path / "my_reward_lib" / "text" / "of.py").write_text(
        "from ..limits import LIMIT\ndef limit(prompt, response, truth, extra): return LIMIT"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rewards = {"limit": RewardConfig(function="my_reward_lib.text.of:limit")}

    async def score() -> dict[str, Outcome]:
        async with Scorer(rewards, Path("/")) as scorer:
            return await scorer.score([], "", None, {})

    assert asyncio.run(score()) == {"limit": Outcome(7.0)}
