"""A headless Chromium that is clicked and typed into as a user does it, through chromedriver's WebDriver protocol.

https://www.w3.org/TR/webdriver2: a dozen requests of JSON, so that no library is needed.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Down": "\ue015",
    "End": "\ue010",
    "Home": "\ue011",
    "PageDown": "\ue00f",
    "Tab": "\ue004",
}
_open = build_opener(ProxyHandler({})).open  # never through a proxy: it is this machine


def missing() -> str:
    """Why there is no browser to test with; empty if there is one."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return (
        f"no {' and no '.join(absent)} on this machine (Debian: apt install chromium chromium-driver)" if absent else ""
    )


class WebDriverError(Exception):
    """The browser refused: there is no such element, or something covers it."""


class Browser:
    """One window."""

    def __init__(self, server: str, profile: str, size: tuple[int, int]):
        arguments = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": arguments},
        }
        wanted["goog:loggingPrefs"] = {"browser": "ALL"}
        self.server = server
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base = f"/session/{answer['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if method != "POST" else json.dumps(body or {}).encode()
        request = Request(self.server + path, content, {"Content-Type": "application/json"}, method=method)
        try:
            with _open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            value = json.load(error)["value"]
            raise WebDriverError(f"{value['error']}: {value['message'].splitlines()[0]}") from None

    def _post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", self.base + path, body)

    def open(self, address: str) -> None:
        self._post("/url", url=address)

    def run(self, script: str, *given: Any) -> Any:
        """What a function's body returns in the page; a promise is waited for."""
        return self._post("/execute/sync", script=script, args=given)

    def all(self, css: str) -> list[str]:
        return [found[_ELEMENT] for found in self._post("/elements", using="css selector", value=css)]

    def one(self, css: str) -> str:
        found: str = self._post("/element", using="css selector", value=css)[_ELEMENT]
        return found

    def click(self, css: str) -> None:
        """Scrolls there and clicks in the middle; refused if something covers it."""
        self._post(f"/element/{self.one(css)}/click")

    def type(self, css: str, text: str) -> None:
        """Replaces what stands in a field by typing."""
        self._post(f"/element/{self.one(css)}/clear")
        if text:
            self._post(f"/element/{self.one(css)}/value", text=text)

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus: names of ``KEYS`` or characters."""
        steps = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])

    def choose(self, css: str, label: str) -> None:
        """Picks an option of a list by its text."""
        options = {self.text_of(option): option for option in self.all(f"{css} option")}
        self._post(f"/element/{options[label]}/click")

    def text_of(self, element: str) -> str:
        text: str = self._ask("GET", f"{self.base}/element/{element}/text")
        return text

    def text(self, css: str) -> str:
        """What a user sees of an element's text."""
        return self.text_of(self.one(css))

    def texts(self, css: str) -> list[str]:
        return [self.text_of(element) for element in self.all(css)]

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """The condition's value once there is one; an element that isn't there yet is waited for."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
                problem: Any = "never true"
            except WebDriverError as error:
                problem = error
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds:.0f} s in vain: {problem}")
            time.sleep(0.03)

    def problems(self) -> list[str]:
        """What the page has logged as an error since the last call: exceptions, and what its policy refused."""
        entries = self._post("/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self.base}/screenshot")))

    def quit(self) -> None:
        self._ask("DELETE", self.base)


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A new browser with a profile of its own; it ends with the context."""
    with TemporaryDirectory() as profile:
        server = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert server.stdout is not None
            port = next(found[1] for line in server.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            window = Browser(f"http://127.0.0.1:{port}", profile, (width, height))
            try:
                yield window
            finally:
                window.quit()
        finally:
            server.terminate()
            server.wait(20)
