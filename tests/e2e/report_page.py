"""A run whose report is looked at in a browser, and what a user sees of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrpo.record.run_folder import RunFolder
from mrpo.record.token_file import RolloutTokens
from tests.browser.chromium import Browser
from tests.unit.observe.detailed import advantage_metrics, budget_metrics
from tests.unit.observe.runs import metrics_of

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
REWARDS = ("correct", "format", HOSTILE)
STEPS, PROMPTS, SAMPLES = 6, 3, 4
ROLLOUTS = STEPS * PROMPTS * SAMPLES + PROMPTS


def a_run(tmp: Path, recipe: str) -> RunFolder:
    """Six steps; in step 4, sample 2 of the prompt of uid 1 failed, and its response is as bad as it gets."""
    weights = json.dumps({name: {"weight": 0.5 + place} for place, name in enumerate(REWARDS)})
    folder = RunFolder.create(recipe, f"rewards: {weights}\n", runs=tmp / "runs")
    folder.announce(STEPS, REWARDS)
    for step in range(1, STEPS + 1):
        metrics = metrics_of(step) | advantage_metrics(step, STEPS, REWARDS) | budget_metrics(step, [2, 4, 9])
        folder.write_metrics(step, metrics)
        rows = [row(step, prompt, s) for prompt in range(PROMPTS) for s in range(SAMPLES)]
        folder.write_rollouts(step, rows, [tokens_of(step, sample) for sample in range(SAMPLES - 1)])
        folder.event("save", step=step)
    folder.write_validation(STEPS, [row(STEPS, prompt, 0) for prompt in range(PROMPTS)])
    folder.event("done")
    return folder


def row(step: int, prompt: int, sample: int) -> dict[str, Any]:
    rewards: dict[str, float | None] = {"correct": float(sample == 3), "format": sample / 4, HOSTILE: step / 10}
    found: dict[str, Any] = {"uid": f"p{prompt}-{step}", "sample": sample, "prompt": f"Question {prompt} of {step}?"}
    found |= {"response": f"the quick {['red', 'brown', 'blue', 'old'][sample]} fox of {step}", "ground_truth": "fox"}
    if (step, prompt, sample) == (4, 1, 2):
        rewards["format"] = None
        found |= {"response": f"{HOSTILE} \x00 \ud800 \u202eneedle ΣÉ", "failures": {"format": f"timeout: {HOSTILE}"}}
    return found | {"rewards": rewards, "advantage": sample - 1.5, "keep": sample != 0, "tokens": 10 * step + sample}


def tokens_of(step: int, sample: int) -> dict[str, Any]:
    """Of the prompt of uid 2: the first token is a tool's, the last one's advantage grows with the sample."""
    pieces = ["the", " quick\n", ["</pre><b>", " brown", " é"][sample], " fox", "<eos>"]
    log_probs, advantages = [-9.0, -0.3, -1.5, -3.0, -7.0], [0.0, -0.5, 0.25, 0.5, 1.0 + sample / 2]
    return RolloutTokens(pieces, log_probs, advantages, [False, True, True, True, True]).record(f"p2-{step}", sample)


def open_page(window: Browser, address: str, tab: str = "rollouts") -> None:
    window.open("about:blank")
    window.open(f"{address}#tab={tab}")
    window.wait(lambda: window.run("return performance.getEntriesByName('rollouts-shown').length"))


def count(window: Browser) -> str:
    return window.text("#count")


def has_count(window: Browser, wanted: str) -> bool:
    return count(window) == wanted


def shown(window: Browser) -> list[list[str]]:
    """Cells of the rows in view: step, kind, prompt, sample, advantage, the three rewards, kept, tokens, response."""
    window.wait(lambda: "…" not in [cells[-1] for cells in _cells(window)])
    return _cells(window)


def _cells(window: Browser) -> list[list[str]]:
    rows = "[...document.querySelectorAll('#table tr[data-place]')]"
    found: list[list[str]] = window.run(f"return {rows}.map(tr => [...tr.cells].map(td => td.textContent))")
    return found


def no_problems(window: Browser) -> None:
    assert window.problems() == []
    assert window.run("return window.hacked === undefined && document.images.length === 0")


TOKEN = '#group article[data-row]:nth-child({}) [data-token="{}"]'


def colour_of(window: Browser, sample: int, token: int) -> str:
    where = TOKEN.format(sample + 1, token)
    found: str = window.run(f"return getComputedStyle(document.querySelector('{where}')).backgroundColor")
    return found


def opacity(colour: str) -> float:
    return float(colour.rstrip(")").split(",")[3]) if colour.count(",") == 3 else 1.0


CONTRAST = """
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => rgb.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const node = document.querySelector(arguments[0]);
  const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
  const under = parse(getComputedStyle(node.closest('pre')).backgroundColor);
  const back = light([r, g, b].map((c, i) => a * c + (1 - a) * under[i]));
  const ink = light(parse(getComputedStyle(node).color).slice(0, 3));
  return (Math.max(back, ink) + .05) / (Math.min(back, ink) + .05);
"""
"""Of a token's text with its background."""
