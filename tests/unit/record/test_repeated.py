"""A log holds what was said and how often, not each time that it was said."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from mrpo.record.repeated import MAX_KNOWN, Repeated

pytestmark = pytest.mark.unit


def passed(messages: list[str], level: int = logging.WARNING, line: int = 1) -> list[str]:
    repeated, found = Repeated(), list[str]()
    for message in messages:
        record = logging.LogRecord("name", level, "file.py", line, message, None, None)
        if repeated.filter(record):
            found.append(record.getMessage())
    return found


def test_a_line_that_repeats_is_written_once_and_then_counted() -> None:
    lines = passed([f"target_num_threads {n} should not exceed 2" for n in range(12_345)])
    assert lines == [
        "target_num_threads 0 should not exceed 2",
        "target_num_threads 9 should not exceed 2 (10 times so far)",
        "target_num_threads 99 should not exceed 2 (100 times so far)",
        "target_num_threads 999 should not exceed 2 (1000 times so far)",
        "target_num_threads 9999 should not exceed 2 (10000 times so far)",
    ]


def test_lines_that_differ_in_words_and_errors_all_pass() -> None:
    assert passed(["prompt a failed", "prompt b failed"]) == ["prompt a failed", "prompt b failed"]
    assert len(passed(["prompt failed"] * 20, logging.ERROR)) == 20


def test_memory_stays_bounded() -> None:
    repeated = Repeated()
    for n in range(MAX_KNOWN + 5):
        word = "".join(chr(97 + int(digit)) for digit in str(n))
        repeated.filter(logging.LogRecord("name", logging.INFO, "file.py", 1, word, None, None))
    assert len(repeated.times) <= MAX_KNOWN


def test_every_logger_of_a_process_is_filtered_also_those_that_were_there() -> None:
    program = (
        "import logging; early = logging.getLogger('early'); logging.basicConfig(format='%(message)s')\n"
        "from mrpo.record.repeated import install; install(); install()\n"
        "for n in range(25): early.warning('number %d', n); logging.getLogger('a.b').warning('other')\n"
        "early.debug('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    counted = ["number 9 (10 times so far)", "other (10 times so far)"]
    assert done.stderr.splitlines() == ["number 0", "other", *counted]
