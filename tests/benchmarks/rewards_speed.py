"""What scoring in processes of its own costs, against calling the function bare.

``python tests/benchmarks/rewards_speed.py [SCORES]`` scores responses of 1000 characters by a rule, all at once, and
prints scores per second and the overhead per score, side by side.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mrpo.config.run import RewardConfig
from mrpo.rewards.function import load_function
from mrpo.rewards.scorer import Scorer

SOURCE = """
import re

def rule(prompt, response, ground_truth, extra):
    found = re.findall(r"<answer>(.*?)</answer>", response)
    return float(bool(found) and found[-1].strip() == ground_truth)

async def rule_async(prompt, response, ground_truth, extra):
    return rule(prompt, response, ground_truth, extra)
"""
PROMPT = [{"role": "user", "content": "What is 6 times 7? " * 10}]
RESPONSE = "Let me think. " * 70 + "<answer>42</answer>"
EXTRA = {"data_source": "benchmark", "response_tokens": 250}


def bare(function: Any, scores: int) -> float:
    """Seconds."""
    start = time.perf_counter()
    for _ in range(scores):
        assert function(PROMPT, RESPONSE, "42", EXTRA) == 1.0
    return time.perf_counter() - start


async def in_processes(folder: Path, name: str, processes: int, scores: int) -> tuple[float, float]:
    """Seconds to start, and to score."""
    start = time.perf_counter()
    config = RewardConfig(function=f"rewards.py:{name}", processes=processes)
    async with Scorer({"rule": config}, folder) as scorer:
        started = time.perf_counter()
        outcomes = await asyncio.gather(*(scorer.score(PROMPT, RESPONSE, "42", EXTRA) for _ in range(scores)))
        done = time.perf_counter()
    assert all(outcome["rule"].score == 1.0 for outcome in outcomes)
    return started - start, done - started


def main() -> None:
    scores = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "rewards.py").write_text(SOURCE)
        function = load_function("rewards.py:rule", folder)
        print(f"{scores} scores of {len(RESPONSE)} characters")
        print(f"{'':24}{'scores/s':>10}{'us/score':>10}{'overhead us':>13}{'start ms':>10}")
        for name, processes in (("rule", 1), ("rule", 2), ("rule_async", 1), ("rule_async", 2)):
            base = bare(function, scores)
            start, seconds = asyncio.run(in_processes(folder, name, processes, scores))
            label = f"{'async' if 'async' in name else 'sync'}, {processes} process{'es' * (processes > 1)}"
            print(f"{'bare, just before':24}{scores / base:10.0f}{base / scores * 1e6:10.1f}")
            print(
                f"{label:24}{scores / seconds:10.0f}{seconds / scores * 1e6:10.1f}"
                f"{(seconds - base) / scores * 1e6:13.1f}{start * 1e3:10.0f}"
            )


if __name__ == "__main__":
    main()
