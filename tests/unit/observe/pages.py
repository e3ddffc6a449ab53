"""The page of a report, read back."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

from mrpo.observe.page.assemble import LIBRARIES, program
from mrpo.observe.report import write_report
from mrpo.record.run_folder import RunFolder

VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """Refuses tags that aren't closed; collects the text, the tags, what is loaded, and what is run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.policy = ""
        self.text = ""
        """What is shown as it is, without scripts."""
        self.programs: list[str] = []
        self.data: dict[str, str] = {}
        """Contents of scripts that aren't run, by id."""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.loaded += [str(given[name]) for name in ("src", "srcset", "data", "action", "formaction") if name in given]
        assert tag != "link"
        assert not [name for name in given if name.startswith("on") or name == "style"]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, given = self.open[-1] if self.open else ("", {})
        if tag == "script" and "type" in given:
            assert given["type"] in ("application/json", "text/plain")
            self.data[str(given["id"])] = self.data.get(str(given["id"]), "") + data
        elif tag == "script":
            self.programs.append(data)
        elif tag != "style":
            self.text += data

    @property
    def given(self) -> Any:
        """What the page's scripts read."""
        return json.loads(self.data["data"])


def checked(html: str) -> Page:
    """The page, which has to run our own scripts and no other, by a policy that allows those and loads nothing."""
    page = Page(html)
    assert len(page.programs) == len(LIBRARIES) + 1
    assert page.programs[-1] == program()
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(p.encode()).digest()).decode()}'" for p in page.programs]
    assert f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'sha256-" in page.policy
    assert page.loaded == []
    return page


def page_of(folder: RunFolder) -> Page:
    """Write the report: the page is in one piece, and the pictures lie in the folder."""
    png, html = write_report(folder)
    pictures = [picture for picture in (png, folder.details_png) if picture.exists()]
    assert png in pictures
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    return checked(html.read_text(encoding="utf-8"))
