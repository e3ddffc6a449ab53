"""A reward model trained with align-anything, as vLLM reads it: ``python convert_reward_model.py FOLDER --out FOLDER``.

Artessay/Qwen2.5-7B-SafeRLHF-RM and -CM (on ModelScope) keep their head as ``score_head.weight``, which transformers and
vLLM call ``score.weight`` in a Qwen2ForSequenceClassification with one label. Nothing else changes, and no file is
loaded as a model. Weights must be safetensors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

OLD, NEW = "score_head.weight", "score.weight"
INDEX = "model.safetensors.index.json"


def convert(given: Path, out: Path) -> None:
    """Copy ``given`` to ``out`` with the head renamed. Ends the program if it isn't such a model."""
    config = json.loads((given / "config.json").read_text())
    shards = sorted(given.glob("*.safetensors"))
    if config.get("model_type") != "qwen2" or not shards:
        sys.exit(f"{given}: expected a Qwen2 in safetensors, found {config.get('model_type')} in {len(shards)} files")
    out.mkdir(parents=True, exist_ok=True)
    for file in given.iterdir():
        if file.is_file() and file.suffix in (".json", ".txt", ".jinja", ".model") and file.name != INDEX:
            shutil.copy(file, out)
    found: dict[str, str] = {}
    for shard in shards:
        with safe_open(shard, framework="pt") as content:
            tensors = {NEW if name == OLD else name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        tensors.pop("lm_head.weight", None)
        save_file(tensors, out / shard.name, metadata={"format": "pt"})
        found |= dict.fromkeys(tensors, shard.name)
    if NEW not in found:
        sys.exit(f"{given}: has no {OLD}, but {', '.join(sorted(name for name in found if 'layers' not in name))}")
    if len(shards) > 1:
        (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": found}))
    labels = {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    config |= {"architectures": ["Qwen2ForSequenceClassification"], **labels}
    (out / "config.json").write_text(json.dumps(config, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    convert(options.folder, options.out)


if __name__ == "__main__":
    main()
