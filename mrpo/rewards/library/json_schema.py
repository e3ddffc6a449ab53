"""The response is JSON, and valid by a schema."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from mrpo.rewards.library._limit import OutOfTimeError, limited
from mrpo.rewards.library._text import blocks, fenced, inside


class json_schema:
    """1 if the response is a JSON value that is valid by the schema (json-schema.org; draft 2020-12, or the one that it
    names), else 0.

    The value is the whole response, or its last Markdown block of JSON if it has one. ``NaN`` and ``Infinity`` aren't
    JSON. Formats (``format: date``) aren't checked, and references to other files aren't followed. A value that takes
    too long to check (``_limit``) isn't valid.

    Args:
        schema: default: the row's, ``extra["schema"]``, as an object or as JSON text. As text it survives a parquet
            file, which gives all objects of a column the same keys.
        tag: take the text of the last ``<tag>…</tag>`` instead; 0 if there is none.

    Raises:
        ValueError: ``schema`` isn't one; in scoring, there is none, it isn't one, or it refers to what it doesn't hold.
    """

    def __init__(self, *, schema: dict[str, Any] | None = None, tag: str | None = None):
        import jsonschema  # noqa: F401  (a missing one is to be reported at once)

        self.tag = tag
        self.validator = None if schema is None else _validator(json.dumps(schema))

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        validator = self.validator or _validator(_schema_of(extra))
        text = inside(response, self.tag) if self.tag else response
        if text is None:
            return 0.0
        found = fenced(blocks(text), ("json",))
        try:
            value = json.loads(found[-1] if found else text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return 0.0
        from referencing.exceptions import Unresolvable

        try:
            with limited():
                return float(validator.is_valid(value))
        except (RecursionError, OutOfTimeError):
            return 0.0
        except Unresolvable as error:
            raise ValueError(f"schema: refers to what it doesn't hold: {error}") from None


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def _schema_of(extra: dict[str, Any]) -> str:
    schema = extra.get("schema")
    if schema is None:
        raise ValueError("schema: not given, neither as the option nor as extra['schema']")
    return schema if isinstance(schema, str) else json.dumps(schema)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    try:
        content = json.loads(schema)
    except ValueError as error:
        raise ValueError(f"schema: not JSON: {error}") from None
    kind = validator_for(content, default=Draft202012Validator)
    try:
        kind.check_schema(content)
    except SchemaError as error:
        raise ValueError(f"schema: not a JSON schema: {error.message} at {error.json_path}") from None
    return kind(content, registry=Registry())  # its own default registry fetches references from the network
