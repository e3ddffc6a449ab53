"""The page of a report, read back."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

from mrpo.observe.report import write_report
from mrpo.record.run_folder import RunFolder


class Page(HTMLParser):
    """Refuses tags that aren't closed; collects the text, the tags and the images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.images: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.images += [value or "" for name, value in attrs if name == "src"]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: RunFolder) -> Page:
    """Write the report; its page has to hold the pictures that lie in the folder."""
    png, html = write_report(folder)
    assert png.read_bytes().startswith(b"\x89PNG")
    page = Page(html.read_text(encoding="utf-8"))
    pictures = [picture for picture in (png, folder.details_png) if picture.exists()]
    encoded = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures]
    assert page.images == [f"data:image/png;base64,{picture}" for picture in encoded]
    return page
