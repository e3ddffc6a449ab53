"""What every typed config shares: frozen, no unknown keys, the docstring under a field is its help."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from mrpo.errors import unknown_name


class StrictModel(BaseModel):
    """A config section: immutable, typed, and it rejects a key it doesn't know by naming the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise unknown_name("", key, cls.model_fields, noun="key")
        return data
