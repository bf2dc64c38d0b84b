"""A Chromium that is driven through chromedriver (W3C WebDriver) by plain HTTP: opens, clicks, asks, takes pictures.

It draws without a graphics card, resolves no name, and logs what pages ask the network for.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.support.browser import CHROMIUM

T = TypeVar("T")
DRIVER = shutil.which("chromedriver")
OPTIONS = (
    "headless=new no-sandbox no-first-run use-angle=swiftshader enable-unsafe-swiftshader mute-audio "
    "disable-dev-shm-usage disable-background-networking disable-component-update "
    "autoplay-policy=no-user-gesture-required disable-features=AutofillServerCommunication"
)


class Browser:
    """One session, 1,400 × 900 pixels. A context manager; `folder` is for what the browser keeps."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM and DRIVER
        options = [f"--{option}" for option in OPTIONS.split()]
        options += ["--window-size=1400,900", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        self._log = folder / "net.json"
        options += [f"--user-data-dir={folder}", f"--log-net-log={self._log}"]
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        assert self._driver.stdout is not None
        said = ""
        while not (found := re.search(r"started successfully on port (\d+)", said)):
            line = self._driver.stdout.readline()
            assert line, said
            said += line
        self._url = f"http://127.0.0.1:{found[1]}/session"
        wanted = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": options},
        }
        try:
            session = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._driver.kill()
            raise
        self._url += f"/{session['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._ask("DELETE", "", None)
        finally:
            self._driver.terminate()
            self._driver.wait(30)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"][:2000]) from None

    def open(self, address: str) -> None:
        """Open a page and wait until it has loaded."""
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function in the page and return what it returns, also a promise's value."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, question: Callable[[], T], seconds: float = 60) -> T:
        """Ask until the answer is true, and return it. AssertionError if it is not within `seconds`."""
        end = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < end, self.run("return document.body.innerText.slice(0, 2000)")
            time.sleep(0.2)
        return answer

    def click(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window, in pixels, and click there."""
        steps = [
            {"type": "pointerMove", "duration": 50, "x": round(x) - 1, "y": round(y)},
            {"type": "pointerMove", "duration": 50, "x": round(x), "y": round(y)},
            {"type": "pause", "duration": 300},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._ask("POST", "/actions", {"actions": [mouse]})

    def picture(self) -> bytes:
        """Return the window as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot", None))

    def requested(self, address: str) -> set[str]:
        """Return what pages of this address and their workers asked the network for. After the session has ended.

        The browser also asks for updates on its own account; a request of a page carries the page's key.
        """
        origin = "{0.scheme}://{0.hostname}".format(urlsplit(address))
        lines = [line for line in self._log.read_text().splitlines() if f'"network_isolation_key":"{origin}' in line]
        return {url for line in lines for url in re.findall(r'"url":"([^"]+)"', line) if not url.startswith("data:")}
