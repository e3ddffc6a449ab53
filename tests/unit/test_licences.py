"""Every package of the locks has a licence that requirements/licences.toml allows, by its own metadata."""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit
LOCKS = Path(__file__).parents[2] / "requirements"
VENDOR = Path(__file__).parents[2] / "mrpo" / "observe" / "page" / "vendor"
RULES: dict[str, Any] = tomllib.loads((LOCKS / "licences.toml").read_text())


def locked(*names: str) -> set[str]:
    text = "".join((LOCKS / f"{name}.txt").read_text() for name in names)
    return set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))


def licence_of(name: str, metadata: Any, rules: dict[str, Any]) -> str:
    """As the package says it, in SPDX's words: its expression, else its classifiers, else its licence field."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or () if c.startswith("License :: ")]
    stated = (metadata.get("License") or "").strip().partition("\n")[0]
    known = [rules["names"].get(c, c) for c in classifiers if c not in ("OSI Approved", "DFSG approved")]
    return " OR ".join(known) or rules["names"].get(stated, stated) or rules["unstated"].get(name, "")


def is_allowed(expression: str, allowed: list[str]) -> bool:
    """Whether an SPDX expression can be met with these. One level of parentheses, as packages have it."""
    inner = re.sub(r"\(([^()]*)\)", lambda found: allowed[0] if is_allowed(found[1], allowed) else "no", expression)
    both = (part.split(" OR ") for part in inner.split(" AND "))
    return all(any(licence.strip() in allowed for licence in either) for either in both)


def complaint(name: str, found: str, rules: dict[str, Any]) -> str | None:
    for exception in rules["exceptions"]:
        if name in exception["packages"]:
            return (
                None if found in exception["licences"] else f"{name}: {found!r}, no longer {exception['licences'][0]!r}"
            )
    return None if is_allowed(found, rules["allowed"]) else f"{name}: {found!r} is not among the allowed licences"


def metadata_of(name: str) -> Any:
    try:
        return distribution(name).metadata
    except PackageNotFoundError:
        return None


def test_every_locked_package_has_an_allowed_licence() -> None:
    packages = {name: metadata_of(name) for name in sorted(locked("cpu", "torch-cpu", "gpu"))}
    elsewhere = {n: e["licences"][0] for e in RULES["exceptions"] for n in e["packages"]} | RULES["elsewhere"]
    found = {
        name: elsewhere.get(name, "") if metadata is None else licence_of(name, metadata, RULES)
        for name, metadata in packages.items()
    }
    assert [wrong for name, licence in found.items() if (wrong := complaint(name, licence, RULES))] == []
    assert sum(metadata is not None for metadata in packages.values()) > 200


def test_what_the_rules_name_is_locked_and_has_a_reason() -> None:
    excepted = [name for exception in RULES["exceptions"] for name in exception["packages"]]
    assert {*excepted, *RULES["unstated"], *RULES["elsewhere"]} <= locked("cpu", "gpu")
    assert len(excepted) == len({*excepted})
    assert all(len(exception["why"]) > 20 for exception in RULES["exceptions"])


def test_every_library_in_a_page_has_an_allowed_licence_and_its_text() -> None:
    assert [
        name for name, library in RULES["inlined"].items() if not is_allowed(library["licence"], RULES["allowed"])
    ] == []
    texts = {name: (VENDOR / library["text"]).read_text() for name, library in RULES["inlined"].items()}
    assert all("Copyright (c)" in text for text in texts.values())


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-3.0)", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("MIT AND GPL-3.0-or-later", False),
        ("GPL-3.0", False),
        ("", False),
        ("MIT AND (GPL-2.0 OR LGPL-2.1)", False),
    ],
)
def test_an_expression_is_allowed_if_it_can_be_met(expression: str, fine: bool) -> None:
    assert is_allowed(expression, RULES["allowed"]) is fine


def test_an_unknown_licence_none_and_a_changed_one_are_named_with_their_package() -> None:
    said = {"mine": {"License": "Beerware"}, "silent": {}, "pycountry": {"License-Expression": "AGPL-3.0-only"}}
    complaints = []
    for name, fields in said.items():
        metadata = Message()
        for field, value in fields.items():
            metadata[field] = value
        complaints.append(complaint(name, licence_of(name, metadata, RULES), RULES))
    assert complaints == [
        "mine: 'Beerware' is not among the allowed licences",
        "silent: '' is not among the allowed licences",
        "pycountry: 'AGPL-3.0-only', no longer 'LGPL-2.1-only'",
    ]


def test_every_locked_package_has_a_hash() -> None:
    for lock in ("cpu", "gpu", "peers", "torch-cpu"):
        entries = re.split(r"^(?=[a-z])", (LOCKS / f"{lock}.txt").read_text(), flags=re.MULTILINE)[1:]
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
        assert entries
