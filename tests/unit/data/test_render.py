"""A tokenizer that is code of its own is executed only if it is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers.dynamic_module_utils as modules

from mrpo.data.render import Renderer
from mrpo.errors import ConfigError
from mrpo.prepare.tiny_model import byte_tokenizer

pytestmark = pytest.mark.unit


def code_tokenizer(folder: Path) -> Path:
    """A tokenizer whose code leaves a file ``ran`` in its folder."""
    byte_tokenizer([]).save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import PreTrainedTokenizerFast\n"
        f"Path({str(folder / 'ran')!r}).touch()\n\n\nclass OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return code_tokenizer(tmp_path / "own")


def test_a_tokenizer_with_code_is_refused_by_the_field_and_not_executed(own: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^model\.trust_remote_code: given false, allowed: true, since the tokenizer"
    ):
        Renderer(str(own), {})
    assert not (own / "ran").exists()


def test_a_trusted_one_is_executed(own: Path) -> None:
    renderer = Renderer(str(own), {}, trust_remote_code=True)
    assert type(renderer.tokenizer).__name__ == "OwnTokenizer"
    assert (own / "ran").exists()
