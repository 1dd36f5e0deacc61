# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven by its own protocol through a pipe: what a mouse or a finger does.

https://chromedevtools.github.io/devtools-protocol
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)
PATIENCE = 60.0


class Browser:
    """One page.

    Attributes:
      requests: addresses that the page asked for, itself included.
      complaints: warnings and errors of its console, and errors that nothing caught.
    """

    def __init__(self, send_to: int, read_from: int):
        self._send_to, self._read_from = send_to, read_from
        self._rest, self._number, self._session = b"", 0, None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        (target,) = [
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send_to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read_from], [], [], PATIENCE)
            assert ready, "Chromium says nothing"
            read = os.read(self._read_from, 1 << 20)
            assert read, "Chromium ended"
            self._rest += read
        first, self._rest = self._rest.split(b"\0", 1)
        return json.loads(first)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            # The empty page that it begins with asks for parts of Chromium itself.
            if not told["documentURL"].startswith("chrome:"):
                self.requests.append(told["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told))
        elif event["method"] == "Runtime.consoleAPICalled":
            if told["type"] in ("warning", "error", "assert"):
                self.complaints.append(json.dumps(told))
        elif event["method"] == "Log.entryAdded" and told["entry"]["level"] != "info":
            self.complaints.append(json.dumps(told["entry"]))

    def open(self, page: Path, *, width: int = 1200, height: int = 900) -> None:
        """Shows a report whose figures are drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")
        self.settle()

    def settle(self) -> None:
        """Until what was changed is painted."""
        self.see("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def see(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a condition of JavaScript holds."""
        end = time.monotonic() + PATIENCE
        while not self.see(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}\n{self.complaints}"
            time.sleep(0.05)

    def point(self, x: float, y: float) -> None:
        """Moves the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        self.point(x, y)
        same = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **same)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **same)

    def tap(self, x: float, y: float) -> None:
        """A finger, and the click that the browser makes of it."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def write(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Saves what the window shows, or the whole page."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in a folder."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    # The protocol is on 3 and 4.
    moved = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", moved, "bash", str(COMMAND), *FLAGS, f"--user-data-dir={folder}"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        process.kill()
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
