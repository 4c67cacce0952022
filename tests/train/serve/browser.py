"""A headless Chromium, spoken to over a pipe in Chrome's DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..running import HANGS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# The browser reads from descriptor 3 and writes to 4.
_CONNECT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def executable() -> str | None:
    """Where Chromium is on this machine; None where it is not."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def page(address: str, folder: Path) -> Iterator[Page]:
    """A page at ``address``, with a camera that shows a test picture.

    Args:
        folder: for the browser's profile.
    """
    name = executable()
    assert name is not None
    to_browser, from_test = os.pipe()
    to_test, from_browser = os.pipe()
    options = (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        "--disable-dev-shm-usage",
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        *("--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"),
    )

    ends = (to_browser, from_browser)
    process = subprocess.Popen(
        [sys.executable, "-ISc", _CONNECT, *map(str, ends), name, *options],
        pass_fds=ends,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(from_test, to_test, address)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_test)
        os.close(to_test)


class Page:
    """One page of the browser.

    Attributes:
        address: of the page.
        problems: errors of its scripts, and what the browser's console calls an error.
    """

    def __init__(self, write: int, read: int, address: str) -> None:
        self.address = address
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers. Errors of the page that it tells meanwhile are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + HANGS
        while time.monotonic() < end:
            if value := self.run(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{expression} did not become true; {self.problems}")

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input, as a person would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def download_to(self, folder: Path) -> None:
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def move_mouse(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + HANGS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            block = os.read(self._read, 1 << 16)
            assert block, "the browser has ended"
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(told["params"]["exceptionDetails"]))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.problems.append(told["params"]["entry"]["text"])
