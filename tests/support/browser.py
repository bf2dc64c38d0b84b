"""A browser that looks at a page as on a phone: nothing wrong, nothing asked of the network, nothing too wide."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.commands import execute

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

MEASURE = """<!doctype html><title>?</title><img src="http://control.invalid/">
<iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>onload = () => {{ const root = frames[0].document.documentElement;
document.title = root.scrollWidth + " of " + root.clientWidth }}</script>"""


def assert_quiet(folder: Path, page: str) -> None:
    """The page stands in a frame as wide as a phone, in a Chromium that logs what pages ask the network for.

    The page around it asks for one address, which shows that requests are seen; no name is resolved.
    """
    assert CHROMIUM
    width = 390
    around, log = folder / "measure.html", folder / "net.json"
    around.write_text(MEASURE.format(page=page, width=width))
    options = "headless no-sandbox no-first-run hide-scrollbars disable-gpu disable-background-networking dump-dom"
    options += " disable-component-update allow-file-access-from-files enable-logging=stderr virtual-time-budget=10000"
    command = [CHROMIUM, *(f"--{option}" for option in options.split()), "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder.parent / 'browser'}", f"--log-net-log={log}", around.as_uri()]
    try:
        done = execute(command)
    finally:
        around.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    scrolled, shown = map(int, re.findall(r"<title>(\d+) of (\d+)</title>", done.stdout)[0])
    assert shown == width and scrolled <= width
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    # The browser also asks for updates on its own account; a request of a page carries the page's key.
    lines = [line for line in log.read_text().splitlines() if '"network_isolation_key":"file:' in line]
    log.unlink()
    asked = {url for line in lines for url in re.findall(r'"url":"([^"]+)"', line)}
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == {"http://control.invalid/"}
