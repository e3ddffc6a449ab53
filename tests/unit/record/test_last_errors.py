"""Of a process that has failed and goes on, the log says why; the run says it where it stands still."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mrpo.record.last_errors import TAIL, last_error, last_errors

from . import tracebacks

pytestmark = pytest.mark.unit

ERROR = "(Worker pid=312) ERROR 11-28 06:00:50 [multiproc_executor.py:871] "
WRITTEN = """WorkerProc hit an exception.
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/vllm/v1/executor/multiproc_executor.py", line 866, in worker_busy_loop
    output = func(*args, **kwargs)
  File "/app/extension.py", line 90, in update_weights
    self.model.load_weights(weights)
AttributeError: 'QKVParallelLinear' object has no attribute 'base_layer'
"""
VLLM = (
    "(EngineCore pid=311) INFO 11-28 06:00:01 [core.py:90] Initializing a V1 LLM engine\n"
    + "".join(ERROR + line for line in WRITTEN.splitlines(keepends=True))
    + "(EngineCore pid=311) INFO 11-28 06:00:51 [loggers.py:259] Engine 000: 0.0 tokens/s\n"
)
CAUSE = f"{WRITTEN.splitlines()[-1]}, at /app/extension.py:90, in update_weights"


def test_the_cause_is_found_behind_what_is_put_before_each_line() -> None:
    assert last_error(VLLM) == CAUSE


def test_of_several_tracebacks_the_last_one_counts_and_of_a_chain_its_cause() -> None:
    """Those after "the above exception was the direct cause" belong to the same failure."""
    assert last_error(f"{tracebacks.CHAINED}\nfine\n{VLLM}") == CAUSE
    chain = """Traceback (most recent call last):
  File "/app/a.py", line 3, in read
    return table["x"]
KeyError: 'x'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/b.py", line 9, in run
    raise RuntimeError("no table") from error
RuntimeError: no table
"""
    assert last_error(f"{VLLM}\n{chain}") == "KeyError: 'x', at /app/a.py:3, in read"


def test_a_message_of_several_lines_is_cut_after_its_first() -> None:
    lines = [*WRITTEN.splitlines()[1:2], '  File "/u/b.py", line 9, in f', "ValueError: bad shape", "  at least 2 rows"]
    assert last_error("\n".join(lines)) == "ValueError: bad shape, at /u/b.py:9, in f"


def test_a_log_without_a_traceback_has_no_error() -> None:
    assert last_error("INFO 11-28 06:00:01 [core.py:90] ERROR is only a word here\n") is None
    assert last_error("") is None


def test_processes_that_wrote_last_come_first_and_each_once(tmp_path: Path) -> None:
    texts = {
        "Old-1.err": VLLM,
        "Twice-2.err": VLLM.replace("base_layer", "older"),
        "Twice-2.out": VLLM,
        "Quiet-3.err": "fine\n",
        "Early-4.err": VLLM + "x" * TAIL,
        "New-5.err.1": VLLM,
    }
    for age, (name, text) in enumerate(texts.items()):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (age, age))
    logs = [tmp_path / name for name in texts]
    said = [f"{process} (Worker pid=312): {CAUSE}" for process in ("New-5", "Twice-2", "Old-1")]
    assert last_errors(logs) == said
    assert last_errors(logs, most=1) == said[:1]


def test_an_engine_that_fails_in_a_weight_update_is_named_by_what_it_failed_of(tmp_path: Path) -> None:
    """vLLM 0.28 with an adapter that it can't take: its worker fails while it cleans up, its core because the worker
    has, and Ray's agent has complained of something else a moment ago."""
    worker = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 700, in get_submodule
    raise AttributeError(
AttributeError: QKVParallelLinear has no attribute `base_layer`

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/venv/lib/python3.11/multiprocessing/shared_memory.py", line 227, in close
    self._mmap.close()
BufferError: cannot close exported pointers exist
"""
    core = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/vllm/v1/engine/core.py", line 1571, in process
    raise RuntimeError(
RuntimeError: Worker failed with error 'cannot close exported pointers exist'
"""
    engine, agent = tmp_path / "vLLMHttpServer-5.out", tmp_path / "ray" / "dashboard_agent.log"
    agent.parent.mkdir()
    before = {"(Worker pid=9) ERROR 11-28 14:02:01 [a.py:1] ": worker, "(EngineCore pid=8) ": core}
    started = "(EngineCore pid=8) INFO 11-28 14:01:01 [core.py:90] Initializing\n"
    engine.write_text(started + "".join(p + line for p, text in before.items() for line in text.splitlines(True)))
    agent.write_text("Traceback (most recent call last):\nValueError: Dashboard http address not found\n")
    os.utime(engine, (1, 1))
    assert last_errors([agent, engine]) == [
        "vLLMHttpServer-5 (Worker pid=9): BufferError: cannot close exported pointers exist, at "
        "/venv/lib/python3.11/multiprocessing/shared_memory.py:227, in close, while handling AttributeError: "
        "QKVParallelLinear has no attribute `base_layer`",
        "vLLMHttpServer-5 (EngineCore pid=8): RuntimeError: Worker failed with error 'cannot close exported pointers "
        "exist', at /venv/lib/python3.11/site-packages/vllm/v1/engine/core.py:1571, in process",
        "dashboard_agent: ValueError: Dashboard http address not found",
    ]
