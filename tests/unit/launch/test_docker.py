"""The image's recipe is sound, pinned and small. What it builds to is not tested here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """(keyword, rest) in order, with comments dropped and continued lines joined."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions by the stage that they belong to."""
    found: dict[str, list[tuple[str, str]]] = {}
    for keyword, rest in instructions():
        if keyword == "FROM":
            found[rest.split(" AS ")[1]] = []
        found[list(found)[-1]].append((keyword, rest))
    return found


def images() -> list[str]:
    """Images from outside that stages start from or copy from."""
    named = [rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"]
    copied = re.findall(r"--from=(\S+)", "\n".join(rest for keyword, rest in instructions() if keyword == "COPY"))
    return [image for image in named + copied if image not in stages()]


def test_both_targets_are_there() -> None:
    assert {"cpu", "gpu"} <= stages().keys()


def test_base_images_are_pinned_by_a_whole_version() -> None:
    assert images()
    for image in images():
        assert re.search(r":\d+\.\d+\.\d+-[\w.-]+$", image), image


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_ends_as_a_user_that_is_not_root_and_has_a_health_check(target: str) -> None:
    stage = stages()[target]
    assert stage[-1] == ("USER", "1000")
    [(_, origin), *_] = stage
    inherited = stages()[origin.split()[0]]
    assert any(keyword == "HEALTHCHECK" and "mrpo" in rest and "doctor" in rest for keyword, rest in inherited)


def test_packages_come_from_the_locks() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    for lock in ("cpu", "gpu"):
        assert (ROOT / "requirements" / f"{lock}.txt").is_file()
        assert f"requirements/install.sh {lock} " in text
    assert all("--no-deps" in line for line in re.findall(r"pip install [^&\n]*", text))


def test_only_what_the_image_needs_reaches_the_build() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    assert "*" in rules
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {
        "mrpo",
        "recipes",
        "launch",
        "requirements",
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
    } == allowed
    assert all((ROOT / name).exists() for name in allowed)
