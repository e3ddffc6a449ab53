"""Template, styles, scripts and data, made into one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from mrpo.observe.page.columns import json_for_html, text_of
from mrpo.observe.page.rollouts import Table
from mrpo.record.replacing import replacing

MODULES = (
    *("dom", "store", "query", "search", "table", "diffs", "tokens", "group"),
    *("chart", "curves", "state", "keys", "live", "main"),
)
"""The page's own scripts, each after those that it imports from."""
LIBRARIES = ("uPlot.iife.min.js", "diff.min.js")
_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def write_page(path: Path, title: str, values: Mapping[str, Any], data: object, table: Table, live: str = "") -> None:
    """Write the page in one move, a piece at a time.

    Args:
        values: what the template shows by itself; it is escaped.
        data: what the scripts read, as JSON.
        table: the rollouts, whose texts come last in the file: the page can be used before a browser has read them.
        live: the version of what is shown, of a page that asks ``mrpo report --watch`` for a newer one.
    """
    template = environment().get_template("report.html")
    style = Markup(_text("page/vendor/uPlot.min.css") + "\n" + _text("page/page.css"))
    scripts = [Markup(text) for text in (*(_text(f"page/vendor/{name}") for name in LIBRARIES), program())]
    parts = template.generate(
        title=title,
        policy=policy(scripts, style, live=bool(live)),
        style=style,
        scripts=scripts,
        data=Markup(json_for_html(data)),
        blocks=_blocks(table),
        live=live,
        **values,
    )
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(parts)


def environment() -> Environment:
    """A name that the template uses and that it wasn't given is an error, never an empty string."""
    found = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_text)
    )
    found.filters["number"] = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    found.filters["change"] = lambda value: "–" if value is None else f"{value:+z.3f}"
    return found


def _blocks(table: Table) -> Iterator[tuple[str, Markup]]:
    """Each block under the id by which the scripts look for it."""
    for kind, blocks in (("block", table.blocks), ("tokens", table.tokens)):
        for place, block in enumerate(blocks):
            if block is not None:
                yield f"{kind}-{place}", Markup(text_of(block))


def _text(name: str) -> str:
    return resources.files("mrpo.observe").joinpath(name).read_text(encoding="utf-8")


def program() -> str:
    """The page's own scripts as one: modules put one after another need no imports, and no exports."""
    texts = (_EXPORT.sub("", _IMPORT.sub("", _text(f"page/js/{name}.js"))) for name in MODULES)
    return '"use strict";\n(() => {\n' + "\n".join(texts) + "})();\n"


def policy(scripts: list[Markup], style: str, live: bool) -> str:
    """The page's Content-Security-Policy: these very scripts and this style, by their hashes, and nothing else.

    >>> policy([], "", live=False)
    ... # doctest: +NORMALIZE_WHITESPACE
    "default-src 'none'; script-src 'none'; style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=';
     connect-src 'none'; base-uri 'none'; form-action 'none'"
    """
    hashes = " ".join(_hash(script) for script in scripts) or "'none'"
    connect = "'self'" if live else "'none'"
    rest = f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; {rest}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
