"""Markdown code blocks as models write them."""

from __future__ import annotations

import pytest

from mrpo.rewards.library._text import Block, blocks, fenced

pytestmark = pytest.mark.unit

CODE = "print(1)\n"


@pytest.mark.parametrize(
    "info",
    [
        "python",
        "Python",
        "python3",
        "python3.11",
        " python ",
        'python title="a.py"',
        "python:a.py",
        "python,linenos",
        "{.python}",
        "{python}",
        "{ .python .numberLines }",
    ],
)
def test_the_language_is_the_first_word_of_the_info_string(info: str) -> None:
    assert blocks(f"```{info}\n{CODE}```") == [Block("python", CODE)]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n",
        "```python\r\nprint(1)\r\n```\r\n",
        "```python\rprint(1)\r```",
        "~~~python\nprint(1)\n~~~",
        "````python\nprint(1)\n````",
        "~~~python\nprint(1)\n~~~~~ ",
        "1. First\n   ```python\n   print(1)\n   ```\n",
        "\t```python\n\tprint(1)\n\t```",
        "```python\nprint(1)\n  ```",
    ],
)
def test_a_block_is_read_however_it_is_fenced(text: str) -> None:
    assert blocks(text) == [Block("python", CODE)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\nprint(1)", []),
        ("```python\nprint(1)\n~~~", []),
        ("````python\nprint(1)\n```", []),
        ("text ```python\nprint(1)\n```", []),
        ("``` a `b`\nprint(1)\n", []),
        ("~~~ a `b`\n~~~", [Block("a", "")]),
        ("````md\n```python\n```\n````", [Block("md", "```python\n```\n")]),
        ("   ```py\n if x:\n     y\n   ```", [Block("py", "if x:\n  y\n")]),
        ("```pycon\n>>> 1\n```\n```\n1\n```", [Block("pycon", ">>> 1\n"), Block("", "1\n")]),
    ],
)
def test_what_opens_and_what_closes_a_block(text: str, found: list[Block]) -> None:
    assert blocks(text) == found


def test_blocks_without_a_label_count_only_where_none_has_the_language() -> None:
    both = [Block("python", "a"), Block("", "b"), Block("text", "c")]
    assert fenced(both, ("python",)) == ["a"]
    assert fenced(both[1:], ("python",)) == ["b"]
    assert fenced(both[2:], ("python",)) == []
