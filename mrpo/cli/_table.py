"""One look for every table that a command prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrpo.errors import printable


def table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    text_columns: int = 1,
    caption: str | None = None,
) -> Table:
    """A table of names, texts and numbers.

    Args:
        title: stands above, at the left.
        headings: one for each column; none: no line of headings.
        rows: cells, which are shown by their ``str`` (or as they are, if styled); None is shown as "–".
        text_columns: as many columns hold text and are set flush left; those after them hold numbers, flush right.
        caption: stands below.
    """
    drawn = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD if headings else None,
        show_header=bool(headings),
        pad_edge=False,
        min_width=len(title) + 2,
    )
    for n, heading in enumerate(headings):
        number = n >= text_columns
        drawn.add_column(heading, justify="right" if number else "left", no_wrap=number or n == 0)
    for row in rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def print_whole(console: Console, drawn: Table) -> None:
    """No cell is ever cut off or broken: in a narrow terminal lines wrap."""
    needed = Console(width=1_000_000).measure(drawn).maximum
    Console(file=console.file, width=max(console.width, needed)).print(drawn)


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return Text("–" if value is None else printable(str(value)))  # as Text: a "[" in it is no markup


def percent(share: float | None, digits: int = 1) -> str | None:
    """A share as a table's cell."""
    return None if share is None else f"{share:.{digits}%}"
