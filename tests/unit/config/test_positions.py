"""A model that takes fewer tokens than a prompt and its response is refused, whatever its RoPE scaling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.load import load_run_config
from mrpo.config.positions import UnknownLength, model_positions, policy_positions, positions, require_positions
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({}, 100),
        ({"rope_scaling": None}, 100),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 400),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 1.5}}, 150),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 30}}, 120),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 400),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 30}}, 100),
        ({"rope_scaling": {"type": "longrope", "factor": 8.0}}, 100),
        ({"rope_scaling": {"rope_type": "linear", "factor": None}}, 100),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, 200),
        (
            {"rope_parameters": {"full": {"rope_type": "linear", "factor": 8.0}, "sliding": {"rope_type": "default"}}},
            800,
        ),
    ],
)
def test_rope_scaling_counts(rope: dict[str, Any], expected: int) -> None:
    assert positions({"max_position_embeddings": 100, **rope}) == expected
    assert positions({"vision": 1, "text_config": {"max_position_embeddings": 100, **rope}}) == expected


@pytest.mark.parametrize("content", [{}, {"n_positions": 100}, {"max_position_embeddings": None}, {"text_config": "x"}])
def test_what_a_config_doesnt_say_is_unknown(content: dict[str, Any]) -> None:
    with pytest.raises(UnknownLength, match="has no max_position_embeddings"):
        positions(content)


def test_a_model_that_isnt_here_is_unknown(tmp_path: Path) -> None:
    for path in ("somebody/something-that-is-nowhere", str(tmp_path), "/on/a/volume"):
        with pytest.raises(UnknownLength, match=r"no config\.json on this machine"):
            model_positions(path)


def run(folder: Path, *overrides: str, **content: Any) -> RunConfig:
    (folder / "config.json").write_text(json.dumps(content))
    given = ["data.max_prompt_length=60", "data.max_response_length=40", f"model.path={folder}"]
    return load_run_config(["recipe=quickstart", *given, *overrides])[0]


def test_a_run_asks_for_no_more_than_the_model_takes(tmp_path: Path) -> None:
    require_positions(run(tmp_path, max_position_embeddings=100))
    config = run(tmp_path, max_position_embeddings=99)
    with pytest.raises(ConfigError) as refused:
        require_positions(config)
    assert str(refused.value) == (
        "data.max_prompt_length, data.max_response_length: given 60 + 40 = 100, allowed: 99 together, the positions of "
        f"model.path ({tmp_path})."
    )
    require_positions(run(tmp_path))  # unknown is no reason to refuse


def test_a_setting_of_verls_that_changes_it_makes_it_unknown(tmp_path: Path) -> None:
    scaled = "+verl.actor_rollout_ref.model.override_config={rope_scaling: {rope_type: yarn, factor: 4.0}}"
    config = run(tmp_path, scaled, max_position_embeddings=50)
    with pytest.raises(UnknownLength, match=r"rope_scaling.* changes it"):
        policy_positions(config)
    require_positions(config)


def test_a_reward_model_is_held_to_its_own(tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    of_judge = f"rewards.good.model={{path: {judge}}}"
    with pytest.raises(ConfigError, match=r"rewards\.good\.model\.max_model_len: given 4096, allowed: at most 2048"):
        require_positions(run(tmp_path, of_judge, max_position_embeddings=100))
    require_positions(run(tmp_path, of_judge, "rewards.good.model.max_model_len=2048", max_position_embeddings=100))
