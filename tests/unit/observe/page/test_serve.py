"""The served page: for this machine, this user, this host's name; and as new as the run's files."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from mrpo.observe.page.rollouts import RolloutReader
from mrpo.observe.page.serve import HOST, ReportServer, version_of
from mrpo.observe.report import write_report_page
from mrpo.record.run_folder import RunFolder

from ..pages import checked
from ..runs import metrics_of, recorded_run, rollouts_of

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return recorded_run(tmp_path, steps=2, end="")


@pytest.fixture
def server(folder: RunFolder) -> Iterator[ReportServer]:
    reader = RolloutReader()
    with ReportServer([folder], lambda path, live: write_report_page(path, [folder], reader, live=live)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)
        assert not thread.is_alive()


def ask(
    server: ReportServer, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"{HOST}:{server.server_port}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_page_and_its_version_follow_the_run(server: ReportServer, folder: RunFolder) -> None:
    path = "/" + server.address.split("/", 3)[3]
    status, html, headers = ask(server, path)
    page = checked(html)
    version = ask(server, f"{path}version")[1]
    assert (status, page.given["rollouts"]["rows"]) == (200, 16)
    assert f'data-live="{version}"' in html
    assert "connect-src 'self'" in page.policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert ask(server, f"{path}version")[1] == version
    folder.write_metrics(3, metrics_of(3))
    folder.write_rollouts(3, rollouts_of(3))
    newer = ask(server, f"{path}version")[1]
    assert newer != version
    html = ask(server, path)[1]
    assert checked(html).given["rollouts"]["rows"] == 24
    assert f'data-live="{newer}"' in html


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:{port}.evil.example", ""]
)
def test_a_foreign_host_is_refused(server: ReportServer, host: str) -> None:
    path = "/" + server.address.split("/", 3)[3]
    for part in (path, f"{path}version"):
        status, text, _ = ask(server, part, host.format(port=server.server_port))
        assert (status, text) == (421, "Misdirected Request")
    assert ask(server, path, f"localhost:{server.server_port}")[0] == 200


def test_whoever_doesnt_know_the_address_sees_nothing(server: ReportServer, folder: RunFolder) -> None:
    for path in (
        "/",
        "/version",
        f"/{'x' * 22}/",
        f"/{server.secret}",
        f"/{server.secret}/../",
        f"/{server.secret}é/"[:-2],
    ):
        if path != f"/{server.secret}":
            assert ask(server, path)[0] == 404, path
    assert ask(server, f"/{server.secret}/config.yaml")[0] == 404
    assert ask(server, f"/{server.secret}/", method="POST")[0] == 501
    assert server.server_address[0] == "127.0.0.1"


def test_a_broken_file_is_said_and_the_next_request_tries_again(server: ReportServer, folder: RunFolder) -> None:
    path, good = "/" + server.address.split("/", 3)[3], folder.metrics_file.read_text()
    folder.metrics_file.write_text("oops\n")
    status, text, _ = ask(server, path)
    assert status == 500
    assert "metrics.jsonl:1: not JSON" in text
    folder.metrics_file.write_text(good)
    assert ask(server, path)[0] == 200


def test_any_change_of_any_file_is_another_version(folder: RunFolder) -> None:
    seen = [version_of([folder])]
    for change in (
        lambda: folder.event("rollout", step=3),
        lambda: folder.write_metrics(3, {"a": 1.0}),
        lambda: folder.write_rollouts(3, rollouts_of(3)),
        lambda: folder.write_validation(3, []),
        lambda: os.utime(folder.rollouts_file(1), ns=(1, 1)),
    ):
        change()
        seen.append(version_of([folder]))
    assert len(set(seen)) == 6
    assert version_of([folder]) == seen[-1]


def test_a_port_in_use_is_bad_input(folder: RunFolder) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(ConfigError, match="--port: given"):
            invoke(["report", str(folder.path), "--watch", "--port", str(other.getsockname()[1])])


def test_ctrl_c_ends_the_command_well_and_leaves_nothing(folder: RunFolder, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mrpo.cli.main", "report", str(folder.path), "--watch"]
    watching = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/\n", watching.stdout.readline())
        assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("mrpo-report-")]
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert (watching.returncode, errors.strip()) == (0, "")
    assert not [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("mrpo-report-")]
