"""Overrides: picking a command's own keys out of them, what is refused, and names of settings."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.config.flatten import flatten
from mrpo.config.overrides import settable, take
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

NAMES = st.text("abcdef", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, st.integers())), st.lists(NAMES, max_size=3))
def test_own_keys_are_taken_and_the_others_stay_as_they_are(pairs: list[tuple[str, int]], own: list[str]) -> None:
    taken, rest = take([f"{key}={value}" for key, value in pairs], *own)
    assert taken == {key: value for key, value in pairs if key in own}
    assert rest == [f"{key}={value}" for key, value in pairs if key not in own]


def test_values_have_hydras_types_and_the_last_one_counts() -> None:
    texts = ["step=1", "++step=2", "data.val_files=[a.parquet]", "~rewards.short", "cluster='a b.yaml'"]
    assert take(texts, "step", "cluster", "rewards.short") == (
        {"step": 2, "cluster": "a b.yaml"},
        ["data.val_files=[a.parquet]", "~rewards.short"],
    )


@pytest.mark.parametrize("text", ["step", "", "=1", "a=[1", "a={b: }"])
def test_a_text_that_is_no_override_is_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take([text])
    assert str(caught.value).startswith(f"override: given {text!r}, allowed: key=value in Hydra's grammar")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "expected"), [("a=1", "++a=1"), ("+a=1", "++a=1"), ("++a=1", "++a=1"), ("~a", "~a")])
def test_an_override_may_set_a_new_key(text: str, expected: str) -> None:
    assert settable(text) == expected


def test_names_of_settings_are_dotted_and_an_empty_section_is_kept() -> None:
    nested = {"actor": {"clip": 0.2, "optim": {"lr": None}, "verl": {}}, "seed": 1}
    assert dict(flatten(nested)) == {"actor.clip": 0.2, "actor.optim.lr": None, "actor.verl": {}, "seed": 1}


@pytest.mark.parametrize(
    "value", ["a=b/c", "/tmp/ünï", "f(x)", "^<think>.*", "a,b/c", "it's", r"\boxed{", "$HOME/ä", "[1", "{b: }"]
)
def test_what_hydra_reads_otherwise_is_shown_as_it_must_be_written(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take([f"run_dir={value}"], "run_dir")
    written = str(caught.value).partition("If the value is a text, in a shell: ")[2]
    in_shell = subprocess.run(["bash", "-c", f"printf %s {written}"], capture_output=True, text=True, check=True).stdout
    assert take([in_shell], "run_dir") == ({"run_dir": value}, [])


def test_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/some one")
    assert take(["run_dir=~/runs/a b"], "run_dir") == ({"run_dir": "/home/some one/runs/a b"}, [])
    assert settable("run_dir=~/runs") == "++run_dir='/home/some one/runs'"
