"""An adapter's settings are verl's, in one place, and where the engines wouldn't get it the run is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.config.checked_run import CheckedRun
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError
from mrpo.export.settings import lora_rank, model_settings

pytestmark = pytest.mark.unit


def test_it_is_merged_for_the_engines_unless_they_hold_it_beside_the_ranks(tmp_path: Path) -> None:
    run = CheckedRun.load(["recipe=quickstart", "model.lora={rank: 4, alpha: 8, target_modules: [q_proj]}"])
    model = run.verl_config(tmp_path).actor_rollout_ref.model
    assert (model.lora_rank, model.lora_alpha, list(model.target_modules)) == (4, 8, ["q_proj"])
    assert model.lora.merge is True
    apart = CheckedRun.load(["recipe=quickstart", "model.lora={rank: 4, merge: false}", "rollout.placement=colocated"])
    assert apart.verl_config(tmp_path).actor_rollout_ref.model.lora.merge is False
    assert lora_rank(model_settings(run.config)) == 4
    assert (
        lora_rank(
            model_settings(run.config.model_copy(update={"model": run.config.model.model_copy(update={"lora": None})}))
        )
        == 0
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora={rank: 4, merge: false}", "model.lora.merge: given false with rollout.placement=separate"),
        ("model.lora={r: 4}", "model.lora.r: is now model.lora.rank"),
        ("model.lora={}", "model.lora.rank: is required and not set"),
    ],
)
def test_what_the_engines_would_not_get_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CheckedRun.load(["recipe=quickstart", override])


def test_verls_own_setting_of_it_is_refused(tmp_path: Path) -> None:
    run = CheckedRun.load(["recipe=quickstart"])
    changed = run.config.model_copy(update={"verl": {"actor_rollout_ref": {"model": {"lora_rank": 8}}}})
    with pytest.raises(ConfigError, match=r"model\.lora_rank: given 8, allowed: 0\. Set model\.lora"):
        to_verl(changed, run.recipe.folder, tmp_path, "cpu")
