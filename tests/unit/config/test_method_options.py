"""Sections whose options belong to a method: what is parsed, refused and left out on a switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from mrpo.config.base import FieldError, StrictModel, config_errors
from mrpo.config.estimators import ALGORITHM, ESTIMATOR_CONFIGS, GroupNormConfig
from mrpo.config.method_options import MethodSection
from mrpo.errors import ConfigError
from mrpo.registry import module_names

pytestmark = pytest.mark.unit


class Common(StrictModel):
    method: str = "even"
    low: int = 1


class Steep(Common):
    RENAMED: ClassVar[Mapping[str, str]] = {"slope": "steepness"}
    steepness: float = 2.0


class Greedy(Common):
    steepness: float = 1.0
    greed: float = 0.5


SECTION = MethodSection("budget", "method", "even", {"even": Common, "steep": Steep, "greedy": Greedy})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Common()),
        ({"low": 3}, Common(low=3)),
        ({"method": "steep"}, Steep(method="steep")),
        ({"method": "greedy", "greed": 0.1, "low": 2}, Greedy(method="greedy", greed=0.1, low=2)),
    ],
)
def test_a_mapping_becomes_the_config_of_the_method_that_it_names(given: dict[str, Any], expected: StrictModel) -> None:
    assert SECTION.parse(given) == expected
    assert type(SECTION.parse(given)) is type(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "greed"}, "method: unknown name 'greed'. Did you mean 'greedy'? Allowed: even, greedy, steep."),
        ({"method": [7]}, "method: unknown name [7]. Allowed: even, greedy, steep."),
        ({"steepness": 1}, "steepness: even has no such option, only greedy, steep. Allowed with even: low."),
        (
            {"method": "steep", "greed": 1},
            "greed: steep has no such option, only greedy. Allowed with steep: low, steepness.",
        ),
        (
            {"method": "steep", "gred": 1},
            "gred: unknown key. Did you mean 'greed', an option of greedy? steep has none.",
        ),
        ({"method": "steep", "slope": 1}, "slope: is now steepness"),
        (
            {"method": "steep", "stepness": 1},
            "unknown key 'stepness'. Did you mean 'steepness'? Allowed: low, method, steepness.",
        ),
        ({"low": "few"}, "low: given 'few', input should be a valid integer, unable to parse string as an integer."),
    ],
)
def test_one_message_names_the_option_and_the_methods_that_have_it(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught, config_errors():
        SECTION.parse(given)
    assert str(caught.value) == message


def test_what_is_no_mapping_is_left_to_pydantic() -> None:
    config = Steep(method="steep")
    assert SECTION.parse(config) is config
    assert SECTION.parse("steep") == "steep"


def test_a_switch_leaves_out_what_only_the_former_method_has() -> None:
    content = {"method": "steep", "greed": 0.1, "steepness": 3.0, "low": 2}
    kept, note = SECTION.switch(content, before="greedy", kept={"method"})
    assert kept == {"method": "steep", "steepness": 3.0, "low": 2}
    assert note == "budget: steep has no greed (the recipe's, for greedy): left out"


@pytest.mark.parametrize(
    ("content", "before", "set_here"),
    [
        ({"method": "steep", "steepness": 3.0}, "steep", {"method"}),  # no switch
        ({"method": "steep", "steepness": 3.0}, "greedy", {"method"}),  # nothing foreign
        ({"method": "even", "greed": 3.0}, "greedy", {"method", "greed"}),  # set on the command line: refused later
        ({"method": "even", "gred": 3.0}, "greedy", {"method"}),  # nobody's: refused later
        ({"method": "nobody", "greed": 3.0}, "greedy", {"method"}),  # refused later
    ],
)
def test_a_switch_leaves_out_nothing_else(content: dict[str, Any], before: str, set_here: set[str]) -> None:
    assert SECTION.switch(content, before, set_here) == (content, "")


def test_every_estimator_has_a_config_and_every_config_an_estimator() -> None:
    assert sorted(ESTIMATOR_CONFIGS) == module_names("mrpo.advantages.estimators")
    for name, model in ESTIMATOR_CONFIGS.items():
        assert ALGORITHM.parse({"estimator": name}).estimator == name
        assert model is GroupNormConfig or model.model_fields["estimator"].default == name


def test_a_field_error_has_the_path_of_its_section() -> None:
    class Outer(StrictModel):
        inner: Steep = Steep()

    with pytest.raises(ConfigError, match=r"^inner.slope: is now inner.steepness$"), config_errors():
        Outer.model_validate({"inner": {"slope": 1}})
    with pytest.raises(ValidationError):
        Outer.model_validate({"inner": {"slope": 1}})
    assert FieldError("tau", "is wrong").at("") == "tau: is wrong"
