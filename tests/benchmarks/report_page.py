"""How fluid the report's page is with 100,000 rollouts, in a real headless Chromium, and what making it takes.

    python -m tests.benchmarks.report_page [ROLLOUTS]

Writes a run of that size, with prompts and responses of words, makes its page in a process of its own, and opens it
from disk. A filter's time is what the page works until the rows that match are in it; its wait for further typing
(0.12 s) isn't part of that.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mrpo.record.run_folder import RunFolder
from tests.browser.chromium import Browser, browser, missing

REWARDS = ("correct", "format", "length", "style")
PROMPTS, SAMPLES = 50, 8
NEEDLE = "heliotrope"
"""A word that one response has."""


def write_run(path: Path, rollouts: int) -> RunFolder:
    """A run folder as training leaves it; 400 rollouts a step, responses of 10 to 400 words."""
    folder = RunFolder.create("large", "recipe: large\nrewards: {correct: {weight: 1.0}}\n", runs=path)
    chance = random.Random(0)
    words = ["".join(chance.choices("aeioubcdfghlmnprst", k=chance.randrange(2, 10))) for _ in range(5000)]
    steps = max(1, rollouts // (PROMPTS * SAMPLES))
    folder.announce(steps, REWARDS)
    for step in range(1, steps + 1):
        folder.write_rollouts(step, _rows(step, words, chance, needle=step == steps // 2))
        means = {f"reward/{name}/mean": chance.random() for name in REWARDS}
        folder.write_metrics(step, means | {f"verl/metric/{place}": chance.random() for place in range(150)})
    folder.event("done")
    return folder


def _rows(step: int, words: list[str], chance: random.Random, needle: bool) -> Iterator[dict[str, Any]]:
    for prompt in range(PROMPTS):
        question = " ".join(chance.choices(words, k=60))
        for sample in range(SAMPLES):
            response = " ".join(chance.choices(words, k=chance.randrange(10, 400)))
            rewards = {
                name: round(chance.random(), 4) if place else float(chance.random() < 0.5)
                for place, name in enumerate(REWARDS)
            }
            row = {"uid": f"{prompt:016x}-{step}", "sample": sample, "prompt": question, "ground_truth": "7"}
            row |= {"response": f"{response} {NEEDLE}" if needle and not prompt and not sample else response}
            yield row | {
                "rewards": rewards,
                "advantage": chance.gauss(0, 1),
                "keep": chance.random() < 0.8,
                "tokens": len(response) // 4,
            }


MAKE = """
import json, resource, sys, time
from pathlib import Path
from mrpo.observe.report import write_report_page
from mrpo.record.run_folder import RunFolder
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
write_report_page(Path(sys.argv[2]), [RunFolder(sys.argv[1])])
print(json.dumps([time.perf_counter() - began, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


SHOWN, PAINT = "rollouts-shown", "first-contentful-paint"
_ENTRY = "performance.getEntriesByName('%s')[0].startTime"
FILTERS = (
    ("reward range", '[data-range="1"][data-end="0"]', "0.9"),
    ("uid", "#uid", "00000007"),
    ("steps", "#step-low", "100"),
    ("no steps", "#step-low", ""),
    ("dropped", "#keep", "0"),
    ("all", "#keep", ""),
)
CHANGE = """
const field = document.querySelector(arguments[0]);
field.value = arguments[1];
field.dispatchEvent(new Event("input", { bubbles: true }));
"""


def worked(window: Browser, act: Callable[[], object]) -> float:
    """Milliseconds that the page works on what ``act`` does to it, as it measures itself: until rows are drawn."""
    entries = "performance.getEntriesByName('filter')"
    before = window.run(f"return {entries}.length")
    act()
    window.wait(lambda: window.run(f"return {entries}.length") > before, 60)
    return float(window.run(f"return {entries}.at(-1).duration"))


def main(rollouts: int) -> None:
    if why := missing():
        raise SystemExit(f"no figures: {why}")
    with TemporaryDirectory() as tmp:
        began = time.perf_counter()
        folder, page = write_run(Path(tmp), rollouts), Path(tmp, "report.html")
        size = sum(file.stat().st_size for file in folder.rollouts.iterdir())
        print(
            f"{rollouts} rollouts, {size / 1e6:.0f} MB of JSON lines (written in {time.perf_counter() - began:.0f} s)"
        )
        made = subprocess.run(
            [sys.executable, "-c", MAKE, folder.path, page], check=True, capture_output=True, text=True
        )
        seconds, before, after = json.loads(made.stdout)
        print(
            f"page      {page.stat().st_size / 1e6:8.1f} MB, made in {seconds:.1f} s, "
            f"with {after / 1024:.0f} MiB at most ({before / 1024:.0f} MiB of them imports)"
        )
        with browser() as window:
            for tab in ("overview", "rollouts"):
                window.open("about:blank")
                window.open(f"{page.as_uri()}#tab={tab}")
                shown, paint = window.wait(lambda: window.run(f"return [{_ENTRY % SHOWN}, {_ENTRY % PAINT}]"), 60)
                print(f"{tab:9} first paint {paint:6.0f} ms, rollouts can be used after {shown:6.0f} ms")
            for title, selector, value in FILTERS:
                took = worked(window, partial(window.run, CHANGE, selector, value))
                print(f"filter    {title:14} {took:6.1f} ms   {window.text('#count')}")
            window.run("document.querySelector('#filters').reset()")
            window.wait(lambda: "of" not in window.text("#count"))
            for title in ("first time", "turned round", "turned back"):
                took = worked(window, lambda: window.click("#table thead th:nth-child(5) button"))
                print(f"sort      {title:14} {took:6.1f} ms")
            frames = sorted(window.run(SCROLL))
            median = frames[len(frames) // 2]
            print(f"scroll    {len(frames)} frames: median {median:.1f} ms, longest {frames[-1]:.1f} ms")
            began = time.perf_counter()
            window.type("#text", NEEDLE)
            window.wait(lambda: window.run("return performance.getEntriesByName('searched').length"), 120)
            print(f"search    {time.perf_counter() - began:.1f} s for all texts   {window.text('#count')}")
            heap = window.run("return performance.memory.usedJSHeapSize")
            print(f"memory    {heap / 2**20:.0f} MiB of the page's heap; problems: {window.problems()}")


SCROLL = """
return new Promise(done => {
  const box = document.querySelector('#table'), times = [];
  let last = performance.now(), frame = 0;
  const next = now => {
    times.push(now - last); last = now;
    box.scrollTop += 7 * 30;
    if (++frame < 120) requestAnimationFrame(next); else done(times.slice(1));
  };
  requestAnimationFrame(next);
});
"""

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
