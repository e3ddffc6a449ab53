"""One file: our scripts put together, the libraries as they were published, and whatever a run wrote as data."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from mrpo.observe.page.assemble import LIBRARIES, MODULES, program
from mrpo.observe.page.rollouts import RolloutReader
from mrpo.observe.report import write_report_page
from mrpo.record.run_folder import RunFolder

from ..pages import Page, checked
from ..runs import new_run, recorded_run

pytestmark = pytest.mark.unit
PAGE = Path(str(resources.files("mrpo.observe").joinpath("page")))
HOSTILE = "</script><script>alert(1)</script><!--<script> \"'`${x} \ud800 \x00 \u202e & <b>"


def page_of(path: Path, *folders: RunFolder, reader: RolloutReader | None = None, live: str = "") -> Page:
    write_report_page(path / "page.html", folders, reader, live=live)
    return checked((path / "page.html").read_text(encoding="utf-8"))


def test_whatever_a_run_wrote_is_data(tmp_path: Path) -> None:
    folder = new_run(tmp_path, config=HOSTILE.replace("\ud800", "").replace("\x00", ""))
    folder.announce(3, [HOSTILE])
    folder.write_metrics(1, {f"reward/{HOSTILE}/mean": 0.5, HOSTILE: 1.0})
    row = {"uid": HOSTILE, "sample": 0, "prompt": HOSTILE, "response": HOSTILE, "rewards": {HOSTILE: None}}
    folder.write_rollouts(1, [row | {"failures": {HOSTILE: HOSTILE}, "details": {HOSTILE: HOSTILE}}])
    folder.event("truncated responses", detail=HOSTILE)
    folder.event("failed", detail=HOSTILE)
    page = page_of(tmp_path, folder)  # which finds no program but ours
    assert "b" not in page.tags
    rollouts, (run,) = page.given["rollouts"], page.given["runs"]
    assert rollouts["uids"] == rollouts["rewards"] == run["rewards"] == [HOSTILE]
    assert HOSTILE in run["metrics"]
    assert page.text.count("</script><script>alert(1)</script><!--<script>") >= 6


def test_several_runs_are_on_one_page(tmp_path: Path) -> None:
    first, second = recorded_run(tmp_path / "a", steps=3), recorded_run(tmp_path / "b", steps=2, end="failed")
    page = page_of(tmp_path, first, second)
    names = [run["name"] for run in page.given["runs"]]
    assert names == [str(first.path), str(second.path)] if first.name == second.name else [first.name, second.name]
    for shown in (*names, "done, 3 of 40 steps", "failed, 2 of 40 steps", "Best of step 3", "Best of step 2"):
        assert shown in page.text
    assert page.given["rollouts"]["rows"] == 5 * 8
    alone = page_of(tmp_path, first)
    assert alone.given["rollouts"]["rows"] == 3 * 8
    assert "all, overlaid" in page.text
    assert "all, overlaid" not in alone.text


def test_blocks_without_room_are_absent_and_counted(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=3)
    full, bare = page_of(tmp_path, folder), page_of(tmp_path, folder, reader=RolloutReader(0))
    blocks = [[name for name in page.data if name.startswith("block-")] for page in (full, bare)]
    assert blocks == [["block-0", "block-1", "block-2"], []]
    assert [page.given["rollouts"]["withoutText"] for page in (full, bare)] == [0, 24]


def test_only_a_page_that_is_served_may_ask_and_only_its_own_server(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1)
    assert "connect-src 'none'" in page_of(tmp_path, folder).policy
    live = page_of(tmp_path, folder, live="abc").policy
    assert "connect-src 'self';" in live
    assert not re.search(r"unsafe|https?:|\*", live)


def test_a_warning_has_its_place(tmp_path: Path) -> None:
    folder = recorded_run(tmp_path, steps=1, end="")
    folder.event("truncated responses", step=1, detail="80% of the step's responses")
    assert "truncated responses: 80% of the step's responses" in page_of(tmp_path, folder).text


# ---- the scripts ----


def sources() -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted((PAGE / "js").glob("*.js"))}


def test_every_module_is_in_the_program_after_what_it_imports() -> None:
    assert sorted(MODULES) == sorted(sources())
    for place, name in enumerate(MODULES):
        imported = re.findall(r'^import .*? from "\./(\w+)\.js";$', sources()[name], re.MULTILINE)
        assert set(imported) <= set(MODULES[:place]), name
    assert not re.search(r"^(import|export) ", program(), re.MULTILINE)


def test_what_a_module_imports_is_exported_there() -> None:
    for name, text in sources().items():
        for names, module in re.findall(r'^import \{(.*?)\} from "\./(\w+)\.js";$', text, re.MULTILINE):
            exported = re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", sources()[module], re.MULTILINE)
            assert {one.strip() for one in names.split(",")} <= set(exported), f"{name} from {module}"


def test_no_two_modules_have_the_same_name_for_different_things() -> None:
    declared = re.compile(
        r"^(?:export )?(?:async )?(?:function|class) (\w+)|^(?:export )?(?:const|let) (\w+)", re.MULTILINE
    )
    names = Counter(a or b for text in sources().values() for a, b in declared.findall(text))
    assert [name for name, count in names.items() if count > 1] == []


def test_scripts_make_no_markup_of_data_and_are_small() -> None:
    for name, text in sources().items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|new Function", text
        ), name
        assert len(text.splitlines()) < 400


def test_libraries_lie_as_published_with_their_licences() -> None:
    listed = tomllib.loads((Path(__file__).parents[4] / "requirements" / "licences.toml").read_text())["inlined"]
    assert {file for library in listed.values() for file in library["files"]} == {
        file.name for file in (PAGE / "vendor").iterdir() if not file.name.endswith(".LICENSE.txt")
    }
    assert set(LIBRARIES) <= {file for library in listed.values() for file in library["files"]}
    import hashlib

    for name, library in listed.items():
        assert (PAGE / "vendor" / library["text"]).read_text().strip(), name
        for file, digest in library["files"].items():
            assert hashlib.sha256((PAGE / "vendor" / file).read_bytes()).hexdigest() == digest, file
