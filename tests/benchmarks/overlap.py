"""What ``rollout.ahead`` saves: the seconds of a step with the next step's rollouts sampled meanwhile, and without.

``python -m tests.benchmarks.overlap [--slow-reward 3] [--pinned] [--steps 12] [--rounds 2]`` trains the quickstart in
turn with ``rollout.ahead`` 0 and 1 and prints the medians of a step and of its parts. ``--slow-reward`` adds a reward
that a local HTTP server takes so many seconds for (the latency is the server's own: it sleeps), side by side for all.
``--pinned`` takes two engines, which may use the first core alone, while the ranks may use the second alone: so that
neither takes the other's time, as on devices of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
from rich.console import Console

from mrpo.cli._table import table
from mrpo.record.run_folder import RunFolder
from tests.benchmarks.rollout_overhead import role_of

WARM_UP = 4
"""Steps that are not measured."""
PARTS = ("step", "rollout", "old_log_prob", "update_actor", "update_weights", "engine_idle", "rank_idle")
CORES = {"engine": 0, "ranks": 1}


@contextmanager
def slow_server(seconds: float) -> Iterator[str]:
    """A server that answers every call with the same score, after ``seconds`` of sleep. Gives its URL."""

    class Sleeper(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(seconds)
            body = json.dumps({"score": 0.5}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024

    server = Server(("127.0.0.1", 0), Sleeper)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def measure(ahead: int, steps: int, pinned: bool, url: str | None) -> dict[str, float]:
    """Median seconds of a step and of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder, "run"))
        settings = [f"run_dir={run.path}", f"trainer.total_training_steps={steps}", f"rollout.ahead={ahead}"]
        settings += ["trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.export=none"]
        settings += ["trainer.logger=[]", "checkpoint.every=-1", "checkpoint.final=false"]
        settings.append(f"rollout.replicas={2 if pinned else 1}")
        if url is not None:
            options = f"{{url: '{url}', concurrency: 128}}"
            settings.append(f"rewards.slow={{function: http, weight: 0.1, options: {options}}}")
        command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", *settings]
        with open(Path(folder, "output"), "w+") as out:
            started = psutil.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            while started.poll() is None:
                if pinned:
                    pin(started)
                time.sleep(1)
            if started.returncode:
                out.seek(0)
                raise SystemExit(f"ahead={ahead}: the run ended with {started.returncode}\n{out.read()[-3000:]}")
        records = run.metrics()[WARM_UP : -ahead or None]
    return {part: statistics.median(float(record[f"time/{part}"]) for record in records) for part in PARTS}


def pin(root: psutil.Process) -> None:
    """Engines to the one core, ranks to the other."""
    for process in root.children(recursive=True):
        try:
            if (core := CORES.get(role_of(process))) is None:
                continue
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {core})
        except (psutil.Error, ProcessLookupError):  # it has ended
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow-reward", type=float, metavar="SECONDS")
    parser.add_argument("--pinned", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    results: dict[int, list[dict[str, float]]] = defaultdict(list)
    with slow_server(given.slow_reward or 0.0) as url:
        for _ in range(given.rounds):
            for ahead in (0, 1):
                results[ahead].append(measure(ahead, given.steps, given.pinned, url if given.slow_reward else None))
    medians = {
        ahead: {part: statistics.median(of_round[part] for of_round in found) for part in PARTS}
        for ahead, found in results.items()
    }
    rows = [[part, *(f"{medians[ahead][part]:.2f}" for ahead in (0, 1))] for part in PARTS]
    Console(width=100).print(table("medians, s", ["", "ahead=0", "ahead=1"], rows))
    on_policy = medians[0]
    longer = max(on_policy["rollout"], on_policy["step"] - on_policy["rollout"])
    print(f"ahead=0: the longer half of a step takes {longer:.2f} s", end="; ")
    step = medians[1]["step"]
    print(f"ahead=1: a step takes {step / longer:.2f} of that, and {step / on_policy['step']:.2f} of a whole one")


if __name__ == "__main__":
    main()
