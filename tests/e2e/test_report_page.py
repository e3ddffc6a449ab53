"""The report's page in a real browser: clicked and typed into as a user does, with texts as bad as they get."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mrpo.observe.page.rollouts import RolloutReader
from mrpo.observe.page.serve import ReportServer
from mrpo.observe.report import write_report_page
from mrpo.record.run_folder import RunFolder
from tests.browser.chromium import Browser, browser, missing
from tests.unit.observe.detailed import advantage_metrics, budget_metrics
from tests.unit.observe.runs import metrics_of

pytestmark = [pytest.mark.proof, pytest.mark.skipif(bool(missing()), reason=missing())]

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
REWARDS = ("correct", "format", HOSTILE)
STEPS, PROMPTS, SAMPLES = 6, 3, 4
ROLLOUTS = STEPS * PROMPTS * SAMPLES + PROMPTS


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return a_run(tmp_path_factory.mktemp("run"), "first")


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Path:
    write_report_page(run.html, [run])
    return run.html


def a_run(tmp: Path, recipe: str) -> RunFolder:
    """Six steps; in step 4, sample 2 of the prompt of uid 1 failed, and its response is as bad as it gets."""
    weights = json.dumps({name: {"weight": 0.5 + place} for place, name in enumerate(REWARDS)})
    folder = RunFolder.create(recipe, f"rewards: {weights}\n", runs=tmp / "runs")
    folder.announce(STEPS, REWARDS)
    for step in range(1, STEPS + 1):
        metrics = metrics_of(step) | advantage_metrics(step, STEPS, REWARDS) | budget_metrics(step, [2, 4, 9])
        folder.write_metrics(step, metrics)
        folder.write_rollouts(step, [row(step, prompt, s) for prompt in range(PROMPTS) for s in range(SAMPLES)])
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


def test_filters_narrow_the_rollouts_and_reset_brings_them_back(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    assert count(window) == f"{ROLLOUTS} rollouts"
    window.choose("#kind", "training")
    window.wait(lambda: count(window) == f"72 of {ROLLOUTS} rollouts")
    window.choose("#keep", "dropped")
    window.wait(lambda: count(window) == f"18 of {ROLLOUTS} rollouts")
    assert {cells[8] for cells in shown(window)} == {"dropped"}
    window.type("#step-low", "5")
    window.wait(lambda: count(window) == f"6 of {ROLLOUTS} rollouts")
    assert {cells[0] for cells in shown(window)} == {"5", "6"}
    window.type("#uid", "P2")
    window.wait(lambda: count(window) == f"2 of {ROLLOUTS} rollouts")
    window.click("[type=reset]")
    window.wait(lambda: count(window) == f"{ROLLOUTS} rollouts")
    assert window.run("return document.querySelector('#uid').value + document.querySelector('#keep').value") == ""
    window.click("#ranges summary")
    window.type('[data-range="1"][data-end="0"]', "0.25")
    window.type('[data-range="1"][data-end="1"]', "0.5")
    window.wait(lambda: count(window) == f"35 of {ROLLOUTS} rollouts")  # samples 1 and 2, but for the failed one
    assert {cells[6] for cells in shown(window)} == {"0.250", "0.500"}
    no_problems(window)


def test_a_failed_reward_is_found_and_says_so(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.choose("#only", "a reward failed")
    window.wait(lambda: count(window) == f"1 of {ROLLOUTS} rollouts")
    (cells,) = shown(window)
    assert cells[:7] == ["4", "training", "p1-4", "2", "0.500", "0.000", "failed"]
    window.click("#table tr[data-place]")
    window.wait(lambda: len(window.all("#group article")) == SAMPLES)
    assert "timeout: </script><script>" in window.text("#group article.chosen details")
    no_problems(window)


def test_columns_sort_in_both_directions_with_missing_scores_last(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    for title, place in (("advantage", 4), ("correct", 5)):
        for direction, best in (("descending", 1.5 if place == 4 else 1), ("ascending", -1.5 if place == 4 else 0)):
            window.click(f"#table th:nth-child({place + 1}) button")
            window.wait(partial(window.all, f'#table th:nth-child({place + 1})[aria-sort="{direction}"]'))
            assert float(shown(window)[0][place].replace("−", "-")) == best, title
    for _ in range(2):
        window.click("#table th:nth-child(7) button")  # format, which failed once
        time.sleep(0.1)
        window.run("const box = document.querySelector('#table'); box.scrollTop = box.scrollHeight")
        window.wait(lambda: shown(window)[-1][6] == "failed")
    no_problems(window)


def test_search_finds_text_wherever_it_is_and_however_it_is_written(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.press("/")
    for text, hits in (
        ("NEEDLE", 1), ("σé", 1), ("Question 1 of 4", 4), ("timeout: </script>", 1), ("brown fox", 18), ("nowhere", 0)
    ):  # fmt: skip
        window.type("#text", text)
        window.wait(partial(has_count, window, f"{hits} of {ROLLOUTS} rollouts"))
    window.type("#text", "")
    window.wait(lambda: count(window) == f"{ROLLOUTS} rollouts")
    no_problems(window)


def test_a_group_lies_side_by_side_with_scores_weights_and_advantages(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.type("#uid", "p1-4")
    window.wait(lambda: count(window) == f"4 of {ROLLOUTS} rollouts")
    window.click('#table tr[data-place="1"]')
    window.wait(lambda: len(window.all("#group article")) == SAMPLES)
    lines = {cells[0]: cells[1:] for cells in map(str.split, window.texts("#group .scores tbody tr"))}
    assert lines["correct"][0] == "0.50"
    assert lines["correct"][2:] == ["0.250", "0.000", "0.000", "0.000", "1.000"]
    assert lines["format"][3:] == ["0.000", "0.250", "failed", "0.750"]
    assert 0 < float(lines["correct"][1]) < 1  # the effective weight of step 4
    assert lines["advantage"] == ["0.000", "−1.500", "−0.500", "0.500", "1.500"]
    assert "Question 1 of 4?" in window.text("#group")
    assert window.text("#group article.chosen h3").startswith("Sample 1")
    hostile = window.texts("#group article pre")[2]
    assert "</script><script>window.hacked = 1</script>" in hostile
    assert "␀" in hostile
    assert "\\ud800" in hostile
    window.press("l")
    window.wait(lambda: window.text("#group article.chosen h3").startswith("Sample 2"))
    no_problems(window)


def test_two_responses_are_compared_word_by_word(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.type("#uid", "p0-2")
    window.wait(lambda: count(window) == f"4 of {ROLLOUTS} rollouts")
    window.click('#table tr[data-place="0"]')
    window.wait(lambda: window.all("#group article"))
    window.press("d")  # from the chosen one to the one of the largest advantage
    window.wait(lambda: window.all("#difference ins"))
    assert (window.texts("#difference del"), window.texts("#difference ins")) == (["red"], ["old"])
    window.choose("#second", "sample 1, advantage −0.500")
    window.wait(lambda: window.texts("#difference ins") == ["brown"])
    no_problems(window)


def test_the_keyboard_alone_does(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri(), "overview")
    window.press("3")
    window.wait(lambda: window.run("return !document.querySelector('#rollouts').hidden"))
    window.press("j", "j", "Down", "k")
    chosen = "#table tr[aria-selected=true]"
    assert window.run("return document.querySelector('#table tr[aria-selected=true]').dataset.place") == "1"
    active = window.run("return document.querySelector('#table table').getAttribute('aria-activedescendant')")
    assert window.run(f"return document.querySelector('{chosen}').id") == active
    window.press("Enter")
    window.wait(lambda: window.all("#group article"))
    window.press("End")
    window.wait(lambda: window.all(f'#table tr[aria-selected=true][aria-rowindex="{ROLLOUTS + 1}"]'))
    window.press("Escape")
    window.wait(lambda: not window.all("#group article"))
    window.press("?")
    window.wait(lambda: window.all("dialog[open]"))
    assert "open the prompt group" in window.text("#help")
    window.press("Escape")
    window.wait(lambda: not window.all("dialog[open]"))
    window.press("/", "b", "l", "u", "e")
    window.wait(lambda: count(window) == f"17 of {ROLLOUTS} rollouts")
    window.press("Escape", "j")
    assert window.run("return document.querySelector('#text').value") == "blue"  # the j went to the table
    no_problems(window)


def test_the_address_keeps_what_is_shown(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.choose("#keep", "kept")
    window.type("#uid", "p1-4")
    window.wait(lambda: count(window) == f"3 of {ROLLOUTS} rollouts")
    window.click('#table tr[data-place="1"]')
    window.wait(lambda: window.all("#group article.chosen"))
    address = window.run("return location.href")
    window.open("about:blank")
    window.open(address)
    window.wait(lambda: window.all("#group article.chosen"))
    assert count(window) == f"3 of {ROLLOUTS} rollouts"
    assert window.text("#group article.chosen h3").startswith("Sample 2")


def test_every_chart_is_drawn_and_has_its_table(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri(), "curves")
    window.wait(lambda: window.all("#charts figure canvas"))
    assert window.texts("#charts h2") == ["Rewards", "Advantage", "Rollout budget", "Responses", "Policy", "Time"]
    figures = len(window.all("#charts figure:not(.matrix)"))
    assert len(window.all("#charts figure:not(.matrix) > details > summary")) == figures > 15
    assert len(window.all("#charts .plot[role=img][aria-label]")) == figures
    window.click("#charts figure details summary")
    assert window.texts("#charts figure tbody tr th[scope=row]")[:3] == ["1", "2", "3"]
    for figure in window.all("#charts figure .plot"):
        window.run("arguments[0].scrollIntoView()", {"element-6066-11e4-a52e-4f735466cecf": figure})
    window.wait(lambda: len(window.all("#charts figure canvas")) == figures)
    slider = window.one(".matrix input")
    window.run("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", {
        "element-6066-11e4-a52e-4f735466cecf": slider
    })  # fmt: skip
    assert window.text(".matrix caption") == "correlation of rewards within groups, step 1"
    no_problems(window)


def test_dark_and_light(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri(), "curves")
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = window.run(colour)
    window.click("#theme")
    assert window.run(colour) != before
    window.press("t")
    assert window.run(colour) == before
    no_problems(window)


def test_what_a_screen_reader_is_told(window: Browser, page: Path) -> None:
    """Every field and button has a name, every table a caption or label, and one tab is chosen."""
    open_page(window, page.as_uri())
    window.press("j", "Enter")
    window.wait(lambda: window.all("#group article"))
    nameless = window.run("""
      const named = node => node.ariaLabel || node.labels?.length || node.textContent.trim() || node.title;
      const nodes = [...document.querySelectorAll('input, select, button, summary')];
      return nodes.filter(node => !named(node)).map(node => node.outerHTML);
    """)
    assert nameless == []
    untitled = "return [...document.querySelectorAll('#rollouts table')].filter(t => !t.caption && !t.ariaLabel).length"
    assert window.run(untitled) == 0
    assert window.run("return document.querySelector('#table table').getAttribute('aria-rowcount')") == str(
        ROLLOUTS + 1
    )
    assert window.texts("[role=tab][aria-selected=true]") == ["Rollouts"]
    assert window.run("return document.querySelector('#count').role") == "status"


def test_several_runs_lie_over_each_other_and_apart(window: Browser, run: RunFolder, tmp_path: Path) -> None:
    write_report_page(tmp_path / "both.html", [run, a_run(tmp_path, "second")])
    open_page(window, (tmp_path / "both.html").as_uri())
    assert count(window) == f"{2 * ROLLOUTS} rollouts"
    second = window.texts("#run option")[2]
    window.choose("#run", second)
    window.wait(lambda: count(window) == f"{ROLLOUTS} of {2 * ROLLOUTS} rollouts")
    assert {cells[0] for cells in shown(window)} == {second}
    window.click("#tab-curves")
    window.wait(lambda: window.all("#charts canvas"))
    assert window.texts("#charts figure b")[0] == "correct"
    window.choose("#run", "all, overlaid")
    window.wait(lambda: second in window.text("#charts figure .u-legend"))
    assert run.name in window.text("#charts figure .u-legend")
    no_problems(window)


def test_texts_without_room_are_said_to_be_left_out(window: Browser, run: RunFolder, tmp_path: Path) -> None:
    write_report_page(tmp_path / "bare.html", [run], RolloutReader(0))
    open_page(window, (tmp_path / "bare.html").as_uri())
    assert f"Texts of {ROLLOUTS} rollouts found no room" in window.text("#rollouts-note")
    assert shown(window)[0][-1] == "(text left out)"
    window.press("j", "Enter")
    window.wait(lambda: "The page had no room for these texts" in window.text("#group"))
    no_problems(window)


def test_a_served_page_takes_new_steps_and_keeps_what_is_shown(window: Browser, tmp_path: Path) -> None:
    folder = a_run(tmp_path, "live")
    reader = RolloutReader()
    with ReportServer([folder], lambda path, live: write_report_page(path, [folder], reader, live=live)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            open_page(window, server.address)
            assert window.text("#live") == "live"
            window.choose("#keep", "dropped")
            window.wait(lambda: count(window) == f"21 of {ROLLOUTS} rollouts")
            window.run("document.activeElement.blur()")
            folder.write_rollouts(STEPS + 1, [row(STEPS + 1, 0, s) for s in range(SAMPLES)])
            window.wait(lambda: count(window).endswith(f"of {ROLLOUTS + SAMPLES} rollouts"))
            assert window.run("return document.querySelector('#keep').value") == "0"
            no_problems(window)
        finally:
            server.shutdown()
            thread.join(10)
        window.open("about:blank")
