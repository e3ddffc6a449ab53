"""The page of runs that go on: written anew when their files have changed, and shown on this machine alone.

Bound to 127.0.0.1. Whoever asks has to know a secret part of the address, as other users of the machine reach the same
port, and to ask for this very host, as a foreign page whose name was rebound to 127.0.0.1 doesn't.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mrpo.record.run_folder import RunFolder

HOST = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

Write = Callable[[Path, str], None]
"""Writes the page of a version to a path."""


def version_of(folders: Sequence[RunFolder]) -> str:
    """The same as long as no file that the page is made of has changed."""
    stats = [
        (file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for folder in folders for file in _files(folder)
    ]
    return hashlib.blake2b(repr(stats).encode(), digest_size=8).hexdigest()


def _files(folder: RunFolder) -> Iterator[Path]:
    for file in (folder.config, folder.events_file, folder.metrics_file):
        if file.exists():
            yield file
    for within in (folder.rollouts, folder.validation_rollouts):
        yield from sorted(within.glob("*.jsonl"))


class ReportServer(ThreadingHTTPServer):
    """Answers ``GET address`` with the page and ``GET address + "version"`` with its version, and nothing else.

    Args:
        folders: the runs.
        write: writes the page.
        port: 0 for any that is free.
    Raises:
        OSError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, folders: Sequence[RunFolder], write: Write, port: int = 0) -> None:
        self._scratch = TemporaryDirectory(prefix="mrpo-report-")
        super().__init__((HOST, port), _Handler)  # closes what it has opened if the port is in use
        self.folders, self.write = list(folders), write
        self.secret = secrets.token_urlsafe(16)
        self.hosts = {f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"}
        self._writing, self._written = threading.Lock(), ""

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    def page(self) -> Path:
        """The newest page, written if there is none of this version. One at a time."""
        with self._writing:
            version, path = version_of(self.folders), Path(self._scratch.name, "report.html")
            if version != self._written:
                self.write(path, version)
                self._written = version
            return path

    def server_close(self) -> None:
        super().server_close()
        self._scratch.cleanup()


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version, sys_version = "mrpo", ""
    timeout = 30

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        _, given, rest = [*self.path.split("/", 2), "", ""][:3]
        if not secrets.compare_digest(given.encode(), self.server.secret.encode()) or rest not in ("", "version"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        if rest == "version":
            return self._answer("text/plain", version_of(self.server.folders).encode())
        try:
            path = self.server.page()
        except Exception as error:  # a file that is being replaced, or a broken line: the next request tries again
            text = f"mrpo: no report ({type(error).__name__}: {error})"
            return self._answer(
                "text/plain", text.encode("utf-8", "backslashreplace"), HTTPStatus.INTERNAL_SERVER_ERROR
            )
        with open(path, "rb") as file:
            self._head("text/html", path.stat().st_size)
            shutil.copyfileobj(file, self.wfile)

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer("text/plain", status.phrase.encode(), status)

    def _answer(self, kind: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(kind, len(content), status)
        self.wfile.write(content)

    def _head(self, kind: str, size: int, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's, and the address holds the secret."""
