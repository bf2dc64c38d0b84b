"""The atlas's site in a real Chromium: points are drawn, a click shows and plays a video, nothing asks the network.

The site is made and served by the environment of `make explore`.
"""

from __future__ import annotations

import base64
import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import ndimage

from data.manifest import read_manifest, write_manifest
from eval.atlas import __main__ as writer
from tests.support.browser import CHROMIUM
from tests.support.collection import embed_untrained, film
from tests.support.commands import ROOT
from tests.support.page import EVIL
from tests.support.simulate import index_cache, simulate
from tests.support.webdriver import DRIVER, Browser

PYTHON = ROOT / ".venv-explore" / "bin" / "python"
pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and chromedriver"),
    pytest.mark.skipif(not PYTHON.exists(), reason="needs the environment of `make explore`: make .venv-explore/ready"),
]
HOSTILE = EVIL + "{{ 6 | times: 7 }} ![x](http://control.invalid/x.png)"
VIDEOS, HEADS = 40, {"experiments": {"untrained": {"hidden": [], "embedding": 16, "output": "linear"}}}


def small(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: int) -> tuple[Path, pa.Table]:
    """Write a cache of 40 videos whose files are two films of 8 s, and its atlas; return the results and the table."""
    torch.set_num_threads(1)
    films = [film(folder / f"{number}.mp4", number) for number in range(2)]
    config = simulate(folder / "results", 0.5, VIDEOS, heads=HEADS, eval={"atlas": {"seconds": 2.0, **settings}})
    table = read_manifest(config.paths.manifest)
    lines = table.to_pylist()
    for number, line in enumerate(lines):
        line |= {"path": films[number % 2], "title": HOSTILE, "genre": ["rock", HOSTILE][number % 2], "tags": [HOSTILE]}
    write_manifest(config.paths, type(table).from_pylist(lines, table.schema))
    index_cache(config)
    embed_untrained(config)
    # Of the cache the films have no more than the names.
    monkeypatch.setattr(writer, "_middles", lambda chosen: np.linspace(1, 5, len(chosen.rows)))
    return config.paths.results, writer.atlas(config)


@contextmanager
def served(results: Path) -> Iterator[str]:
    """Serve the site as `make explore` does; yield its address."""
    command = [PYTHON, "-m", "eval.atlas.site", results]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("The map: http://127.0.0.1:"), line
            yield line.split()[2]
        finally:
            process.terminate()


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Serve another site on this machine; yield its address and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        server.shutdown()


def points(browser: Browser) -> list[tuple[float, float]]:
    """Return the centres of coloured spots on the map, those that stand alone first."""
    left, top, width, height = browser.run(
        "const r = document.querySelector('canvas').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    with Image.open(io.BytesIO(browser.picture())) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.int16)
    scale = pixels.shape[1] / browser.run("return innerWidth")
    assert scale == 1
    coloured = pixels.max(axis=2) - pixels.min(axis=2) > 50
    # Not the controls at the top and the legend beside them.
    inside = np.zeros_like(coloured)
    inside[int(top + 170) : int(top + height - 30), int(left + 10) : int(left + width - 10)] = True
    numbers, count = ndimage.label(coloured & inside)
    areas = ndimage.sum_labels(numbers > 0, numbers, range(1, count + 1))
    centres = ndimage.center_of_mass(numbers > 0, numbers, range(1, count + 1))
    usual = [number for number in np.argsort(areas) if 20 <= areas[number] <= 400]
    return [(centres[number][1], centres[number][0]) for number in usual]


def opened(browser: Browser, address: str) -> list[tuple[float, float]]:
    """Open the site and wait until its points are drawn; return where they are."""
    browser.open(address)
    browser.wait(lambda: browser.run("return document.querySelectorAll('canvas').length"))
    return browser.wait(lambda: spots if len(spots := points(browser)) > VIDEOS // 4 else [])


def click(browser: Browser, spots: list[tuple[float, float]], shown: str) -> None:
    """Click on points until something is shown that a selector finds."""
    for spot in spots:
        browser.click(*spot)
        try:
            browser.wait(lambda: browser.run(f"return document.querySelectorAll('{shown}').length"), 3)
        except AssertionError:
            continue
        return
    raise AssertionError(f"no click on {len(spots)} points showed {shown}")


PLAY = """
const player = document.querySelector(arguments[0]);
player.muted = true;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
return player.play().then(async () => {
    const start = player.currentTime;
    for (let i = 0; i < 300 && player.currentTime < start + 0.1; i++) await pause(0.1);
    return [player.currentTime - start, player.duration, player.videoWidth ?? 0, player.error && player.error.message];
})
"""
"""Play, and return the seconds that it has played after a while, its duration, its width, and what went wrong."""


def test_a_click_shows_and_plays_a_video_and_its_neighbours(tmp_path, monkeypatch):
    results, table = small(tmp_path, monkeypatch)
    images = {base64.b64encode(line["bytes"]).decode(): i for i, line in enumerate(table["image"].to_pylist())}
    assert len(images) == VIDEOS
    with served(results) as address, elsewhere() as (other, asked), Browser(tmp_path / "browser") as browser:
        click(browser, opened(browser, address), "video")
        sources = browser.run(
            "return [...document.querySelectorAll('img')].map((i) => [i.src, i.naturalWidth, i.naturalHeight])"
        )
        ((shown, width, height),) = [source for source in sources if source[0].startswith("data:image/jpeg;base64,")]
        assert (width, height) == (192, 108)
        line = table.slice(images[shown.partition(",")[2]], 1).to_pylist()[0]
        # Text is shown as it is: no tag, template or Markdown in it is obeyed.
        text = browser.run("return document.body.innerText")
        assert f"{line['video_id']}" in text and HOSTILE in text and not browser.run("return document.scripts[1]?.text")
        assert browser.run("return [...document.querySelectorAll('img')].filter((i) => i.onerror).length") == 0
        time, duration, _, error = browser.run(PLAY, "audio")
        assert time >= 0.1 and 1.9 < duration < 2.2 and error is None
        assert browser.run("return document.querySelector('video').getAttribute('src')") == line["video"]
        time, duration, width, error = browser.run(PLAY, "video")
        assert time >= 0.1 and 1.9 < duration < 2.2 and width == 192 and error is None
        browser.run("[...document.querySelectorAll('button')].find((b) => b.innerText == 'Nearest Neighbors').click()")
        neighbours = [f"v{row:04d}" for row in line["neighbours"]["ids"]]
        browser.wait(lambda: f"Neighbors of #{line['row']}" in browser.run("return document.body.innerText"))
        text = browser.run("return document.body.innerText")
        assert [name for name in neighbours if name in text] == neighbours
        for place in ("http://control.invalid/", other):
            script = "return fetch(arguments[0]).then(() => 'came', () => 'refused')"
            assert browser.run(script, place) == "refused"
    asked_for = browser.requested(address)
    for name in ("", "data/dataset.parquet", line["video"]):
        assert f"{address}{name}" in asked_for
    # Chromium asks by itself for an icon, at the beginning of the server's addresses, where there is nothing.
    icon = urljoin(address, "/favicon.ico")
    assert [url for url in asked_for if not url.startswith(address) and url != icon] == [] == asked


def test_a_large_collection_plays_its_own_files(tmp_path, monkeypatch):
    results, table = small(tmp_path, monkeypatch, media_videos=VIDEOS - 1)
    assert "image" not in table.column_names
    with served(results) as address, Browser(tmp_path / "browser") as browser:
        click(browser, opened(browser, address), "video")
        source = browser.run("return document.querySelector('video').getAttribute('src')")
        start, stop = map(float, source.partition("#t=")[2].split(","))
        assert source in table["video"].to_pylist() and stop == pytest.approx(start + 2)
        time, duration, width, error = browser.run(PLAY, "video")
        assert time >= 0.1 and duration == pytest.approx(8, abs=0.2) and width and error is None
        assert start < browser.run("return document.querySelector('video').currentTime") < stop + 0.1
