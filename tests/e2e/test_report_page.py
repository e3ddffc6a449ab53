"""The report's page in a real browser: clicked and typed into as a user does, with texts as bad as they get."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mrpo.observe.page.rollouts import RolloutReader
from mrpo.observe.page.serve import ReportServer
from mrpo.observe.report import write_report_page
from mrpo.record.run_folder import RunFolder
from tests.browser.chromium import Browser, browser, missing
from tests.e2e.report_page import (
    CONTRAST,
    ROLLOUTS,
    SAMPLES,
    STEPS,
    TOKEN,
    a_run,
    colour_of,
    count,
    has_count,
    no_problems,
    opacity,
    open_page,
    row,
    shown,
)

pytestmark = [pytest.mark.proof, pytest.mark.skipif(bool(missing()), reason=missing())]


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
    window.click("#ranges summary")  # it lay over the button
    window.click("[type=reset]")
    window.choose("#only", "a reward failed")  # and the rollout says why
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


def test_tokens_are_coloured_read_out_and_listed(window: Browser, page: Path) -> None:
    open_page(window, page.as_uri())
    window.choose("#only", "with tokens")
    window.wait(lambda: count(window) == f"18 of {ROLLOUTS} rollouts")
    window.type("#uid", "p2-5")
    window.wait(lambda: count(window) == f"3 of {ROLLOUTS} rollouts")
    window.click('#table tr[data-place="0"]')
    window.wait(lambda: len(window.all("#group article pre.tokens")) == SAMPLES - 1)
    assert window.text("#group article:nth-child(4) pre") == "the quick old fox of 5"  # it has no tokens
    note = (
        "5 tokens, 4 in the loss; advantage −0.500 to 2.000; log-probability −2.950 on average, least −7.000 at “<eos>”"
    )
    assert window.texts("#group article:nth-child(3) .note") == [note]
    # by advantage: blue above 0, orange and underlined below, nothing outside the loss; on one scale for the group
    assert opacity(colour_of(window, 2, 0)) == 0
    assert [round(opacity(colour_of(window, n, 4)), 2) for n in range(3)] == [0.25, 0.38, 0.5]
    assert colour_of(window, 2, 4).startswith("rgba(0, 114, 178")
    assert colour_of(window, 2, 1).startswith("rgba(213, 94, 0")
    assert len(window.all("#group .t.minus[data-token]")) == SAMPLES - 1
    assert "2.000" in window.text("#legend")
    # by log-probability: the less likely, the darker
    window.choose("#colour", "log-probability")
    assert "colour=logprob" in window.run("return location.hash")
    shades = [opacity(colour_of(window, 0, token)) for token in range(5)]
    assert shades[0] == 0 < shades[1] < shades[2] < shades[3] < shades[4] == 0.5
    assert "−6 or less" in window.text("#legend")
    # token by token, by keyboard and by pointing
    window.run("document.activeElement.blur()")
    window.press("]", "]", "]")
    said = "token 3 of 5, “</pre><b>”: log-probability −1.500, probability 0.223, advantage 0.250"
    assert window.text("#token") == said
    window.press("[", "[", "[")
    assert window.text("#token").endswith("probability 1.23e-4, not in the loss")
    window.click(TOKEN.format(2, 1))
    assert "token 2 of 5, “ quick↵”" in window.text("#token")
    assert window.text("#group article.chosen h3").startswith("Sample 1")
    window.press("c")
    window.wait(lambda: window.run("return document.querySelector('#colour').value") == "none")
    assert opacity(colour_of(window, 0, 4)) == 0
    # as a table
    window.click("#group article:nth-child(1) .values summary")
    rows = window.texts("#group article:nth-child(1) .values tbody tr")
    assert rows[0].split() == ["1", "“the”", "−9.000", "1.23e-4", "0.000", "no"]
    assert rows[4].split() == ["5", "“<eos>”", "−7.000", "0.001", "1.000", "yes"]
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


def test_light_and_dark_differ_and_the_darkest_token_can_be_read_in_both(window: Browser, page: Path) -> None:
    window.open("about:blank")
    window.open(f"{page.as_uri()}#tab=rollouts&only=tokens&uid=p2-5&open=0.0.5.2.p2-5")
    window.wait(lambda: len(window.all("#group article pre.tokens")) == SAMPLES - 1)
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = window.run(colour)
    for way in (lambda: window.click("#theme"), lambda: window.press("t")):
        last = window.run(colour)
        window.run("document.activeElement.blur()")  # a list takes letters for itself
        way()
        assert window.run(colour) != last
        for of in ("advantage", "log-probability"):
            window.choose("#colour", of)
            assert window.run(CONTRAST, TOKEN.format(3, 4)) > 4.5  # WCAG 2.1, 1.4.3
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
