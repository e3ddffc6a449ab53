"""What every typed config shares: frozen, no unknown keys, the docstring under a field is its help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from mrpo.config.replaced import REPLACED
from mrpo.errors import ConfigError, unknown_name


class FieldError(ConfigError):
    """What is wrong with one key of a section; ``finding`` puts the section's path in front of the key."""

    def __init__(self, key: str, problem: str):
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem

    def at(self, section: str) -> str:
        return f"{_path(section, self.key)}: {self.problem}"


class RenamedField(FieldError):
    """A key that has another name now."""

    def __init__(self, key: str, new: str):
        super().__init__(key, f"is now {new}")
        self.new = new

    def at(self, section: str) -> str:
        return f"{_path(section, self.key)}: is now {_path(section, self.new)}"


class StrictModel(BaseModel):
    """A config section: immutable, typed, and it rejects a key it doesn't know by naming the nearest one it does."""

    # Schemas are built as they are first used: completing a word in a shell reads names and types alone.
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, defer_build=True
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former names of fields, and what they are called now. A former name is refused with the present one."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {}
    """Fields that nothing reads where another one has one of these values, as ``{"tau": ("mode", ("hard",))}``. One
    that isn't at its default then is refused, as is one that a command line sets."""

    ELSEWHERE: ClassVar[str | None] = None
    """Where a key that isn't one of these fields may belong, as a sentence; it is added to the refusal."""

    OF_VERL: ClassVar[str | None] = None
    """The section of verl's configuration that has the same subject: a key may be one of that."""

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key in cls.model_fields:
                    continue
                if key in cls.RENAMED:
                    raise RenamedField(key, cls.RENAMED[key])
                if instead := REPLACED.get(f"{cls.OF_VERL}.{key}"):
                    raise ConfigError(f"unknown key {key!r}. {instead}")
                of_verl = cls.OF_VERL and f"Those of verl go into verl.{cls.OF_VERL}."
                refusal = str(unknown_name("", key, cls.model_fields, noun="key"))
                raise ConfigError(" ".join(filter(None, (refusal, cls.ELSEWHERE, of_verl))))
        return data

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> Self:
        for name in self.WITHOUT_EFFECT:
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                self.require_effect(name)
        return self

    def require_effect(self, name: str) -> None:
        """Raises FieldError if the value of another field leaves the field ``name`` without effect."""
        other, values = self.WITHOUT_EFFECT.get(name, (name, ()))
        if getattr(self, other, None) in values:
            given, value = getattr(self, name), getattr(self, other)
            raise FieldError(
                name,
                f"given {as_yaml(given)}, which has no effect with {other}={as_yaml(value)}. "
                f"Allowed: another {other}, or no {name}.",
            )

    @classmethod
    def effective(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the fields ``given`` that have an effect beside the others, or their defaults."""

        def value(name: str) -> Any:
            return given[name] if name in given else cls.model_fields[name].get_default(call_default_factory=True)

        off = {name for name, (other, values) in cls.WITHOUT_EFFECT.items() if value(other) in values}
        return {name: content for name, content in given.items() if name not in off}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """pydantic's copy, which would take any key in ``update``; an unknown one is refused here."""
        for key in update or {}:
            if key not in type(self).model_fields:
                raise unknown_name("", key, type(self).model_fields, noun="key")
        return super().model_copy(update=update, deep=deep)


@contextmanager
def config_errors() -> Iterator[None]:
    """What pydantic finds wrong inside becomes one ConfigError, a line for each finding."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError("\n".join(finding(e) for e in error.errors())) from None


def finding(error: Any) -> str:
    """One of pydantic's findings in our wording: which field, what was given, what is allowed."""
    field = ".".join(str(part) for part in error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause.at(field)
    if isinstance(cause, ConfigError):
        return f"{field}: {cause}" if field and not str(cause).startswith(field) else str(cause)
    if error["type"] == "missing":
        return f"{field}: is required and not set."
    if error["loc"][-1:] == ("[key]",):
        section = ".".join(str(part) for part in error["loc"][:-2])
        return f"{section}: given the name {as_yaml(error['input'])}, allowed: a text. If it is meant as one, quote it."
    return f"{field}: given {error['input']!r}, {error['msg'][0].lower()}{error['msg'][1:]}."


def as_yaml(value: Any) -> str:
    """A value as a recipe's file has it, in a line.

    >>> as_yaml([None, True, "a"])
    '[null, true, a]'
    """
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def _path(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _low_below_high(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ConfigError(f"given [{bounds[0]:g}, {bounds[1]:g}], allowed: [low, high] with low < high.")
    return bounds


Bounds = Annotated[tuple[float, float], AfterValidator(_low_below_high)]
"""[low, high], low below high."""
