"""Texts in blocks: what goes in comes out, and what is left out is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.observe.page import texts
from mrpo.observe.page.texts import MAX_CHARACTERS, BlockWriter, entry, read_block, shorten

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(["", "same", "\ud800", "\x00</script>"])


@given(st.lists(st.fixed_dictionaries({"prompt": TEXT, "response": TEXT}), max_size=40), st.integers(1, 9))
def test_entries_come_back_in_order_whatever_the_blocks(records: list[dict[str, Any]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "BLOCK", size)
        writer = BlockWriter()
        for record in records:
            writer.add(entry(record))
        writer.close()
    assert [found for block in writer.blocks for found in read_block(block)] == [
        {name: text for name, text in record.items() if text} for record in records
    ]
    assert sum(writer.sizes) == len(records)
    assert all(0 < n <= size for n in writer.sizes)


def test_a_block_of_long_texts_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MAX_BLOCK", 1000)
    writer = BlockWriter()
    for _ in range(10):
        writer.add(entry({"response": "x" * 600}))
    writer.close()
    assert writer.sizes == [2] * 5


@given(st.text(max_size=200), st.integers(4, 100))
def test_a_text_is_shortened_in_its_middle_and_its_length_is_accounted_for(text: str, largest: int) -> None:
    short, missing = shorten(text, largest)
    if missing == 0:
        assert short == text
        return
    head, tail = short[: largest * 3 // 4], short[-(largest - largest * 3 // 4) :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) + missing == len(text)


def test_what_was_left_out_is_said_by_field() -> None:
    long = "y" * (MAX_CHARACTERS + 5)
    found = entry({"prompt": "short", "response": long, "messages": [long], "failures": {"a": "timeout"}})
    assert found["left_out"] == {"response": 5, "messages": MAX_CHARACTERS + 9}
    assert "messages" not in found
    assert found["failures"] == {"a": "timeout"}
    assert "left_out" not in entry({"prompt": "short"})


@pytest.mark.parametrize("truth", [["a", 1], {"x": None}, 3, 0, False])
def test_a_ground_truth_that_is_no_text_is_shown_as_json(truth: Any) -> None:
    import json

    assert json.loads(entry({"ground_truth": truth})["ground_truth"]) == truth
