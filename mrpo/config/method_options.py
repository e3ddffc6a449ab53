"""A config section in which one key names a method, and the other keys are options of that method alone.

Each method has a config class; ``methods`` maps the methods' names to their classes. An option that the chosen method
lacks is refused. Only where a command line chooses another method than the recipe did, the recipe's options of its own
method are left out, and a note says so: ``algorithm.estimator=dvao`` is enough on a recipe that sets GD2PO's ``tau``.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mrpo.config.base import FieldError, StrictModel
from mrpo.errors import unknown_name


@dataclass(frozen=True)
class MethodSection:
    """Where a method is chosen: ``key`` of the section named ``field``, ``default`` if it isn't set."""

    field: str
    key: str
    default: str
    methods: Mapping[str, type[StrictModel]]

    def parse(self, given: Any) -> Any:
        """A mapping as the config of the method that it names; anything else as it is, for pydantic to judge.

        Raises:
            FieldError: there is no such method, or it lacks an option that another method has.
            ValidationError: an option's value is wrong, or no method has it.
        """
        if not isinstance(given, Mapping):
            return given
        method = given.get(self.key, self.default)
        if not isinstance(method, str) or method not in self.methods:
            raise FieldError(self.key, str(unknown_name("", method, self.methods)))
        for option in given:
            self._require(method, str(option))
        return self.methods[method].model_validate({self.key: method, **given})

    def _require(self, method: str, option: str) -> None:
        known = self.methods[method].model_fields
        if option in known or option in self.methods[method].RENAMED:
            return
        owners = self._owners(option)
        if owners:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.6)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            own = ", ".join(sorted(set(known) - {self.key}))
            raise FieldError(
                option, f"{method} has no such option, only {', '.join(owners)}.{hint} Allowed with {method}: {own}."
            )
        near = difflib.get_close_matches(option, self.options(), n=1, cutoff=0.6)
        if near and near[0] not in known:
            of = ", ".join(self._owners(near[0]))
            raise FieldError(option, f"unknown key. Did you mean {near[0]!r}, an option of {of}? {method} has none.")

    def options(self) -> set[str]:
        """Options of any method."""
        return {option for model in self.methods.values() for option in model.model_fields}

    def _owners(self, option: str) -> list[str]:
        return sorted(name for name, model in self.methods.items() if option in model.model_fields)

    def switch(self, content: Mapping[str, Any], before: str, kept: Collection[str]) -> tuple[dict[str, Any], str]:
        """The section's ``content`` after the method was changed from ``before``, without the options that only the
        former method has; and a note that names them, empty if there are none.

        Args:
            kept: options that the command line sets itself. They stay, to be refused if they are foreign.
        """
        method = content.get(self.key, self.default)
        if method == before or method not in self.methods or before not in self.methods:
            return dict(content), ""
        foreign = self.methods[before].model_fields.keys() - self.methods[method].model_fields.keys()
        foreign = (foreign | (content.keys() - self.methods[method].effective(content).keys())) - {*kept}
        left_out = [option for option in content if option in foreign]
        if not left_out:
            return dict(content), ""
        note = f"{self.field}: {method} has no {', '.join(left_out)} (the recipe's, for {before}): left out"
        return {option: value for option, value in content.items() if option not in foreign}, note
