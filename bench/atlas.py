"""What the map of all videos costs at full size: writing it, and opening it in a browser.

    python -m bench.atlas FOLDER                 # plants 550,000 videos in FOLDER: 17 GB

Writes bench/results/atlas.json, FOLDER, and files in the system's temporary folder. FOLDER is a cache of planted
features of the real widths, with embeddings by untrained projection heads of the real width. Measured in processes of
their own: writing the atlas, beside a floor, which is reading the bytes of the cache and the embeddings once; making
the site of it, by the environment of `make explore`; and the time until a headless Chromium without a graphics card
has drawn all points, with its memory and the server's. Videos have no files, so nothing is played.
"""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from PIL import Image

from bench import measure
from bench.fill import DIMS
from bench.query import EXPERIMENT, VIDEOS, plant
from config.cli import UserError, parser
from config.model import read
from config.paths import Paths
from eval.atlas.__main__ import atlas
from tests.support.webdriver import Browser

PYTHON = measure.ROOT / ".venv-explore" / "bin" / "python"
DRAWN = 0.02
"""Share of the map's pixels that are coloured, from which the points count as drawn."""
REPEATS = 3
STAGES = {
    EXPERIMENT: "pooling the embeddings",
    "faiss.loader": "ranks",  # what is done until the library speaks
    "graph": "the graph of neighbours",
    "neighbours": "searching it",
    "features_musicnn": "features of musicnn",
    "features_r2plus1d": "features of r2plus1d",
    "rest": "writing the file",
}
"""Stages in the words of the table, by what speaks at their end."""


def written(folder: str, threads: str) -> dict[str, Any]:
    """Write the atlas, in this process."""
    torch.set_num_threads(int(threads))
    config = read(Path(folder) / "config.json")
    stages = _Stages()
    logging.getLogger().addHandler(stages)
    logging.getLogger().setLevel(logging.INFO)
    table, costs = measure.measured(lambda: atlas(config, int(threads)))
    about = pq.read_schema(config.paths.atlas).metadata
    return {
        "videos": table.num_rows,
        "columns": table.num_columns,
        "bytes": config.paths.atlas.stat().st_size,
        **costs,
        "stages": stages.seconds(costs["wall"]),
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "recall": float(re.findall(rb'"recall": ([\d.]+)', about[b"atlas"])[0]),
    }


class _Stages(logging.Handler):
    """Notes when each part of the work last spoke."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.perf_counter()
        self._last: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line of the log."""
        self._last[record.name] = time.perf_counter() - self._start

    def seconds(self, wall: float) -> dict[str, float]:
        """Return the seconds from the end of one part to the end of the next, and what is left at the end."""
        ends = sorted((end, name) for name, end in self._last.items())
        before, parts = 0.0, {}
        for end, name in [*ends, (wall, "rest")]:
            parts[name], before = round(end - before, 2), end
        return parts


def floor(folder: str, threads: str) -> dict[str, Any]:
    """Read all bytes of the cache's features and of the embeddings once."""
    paths, count = Paths(Path(folder)), int(threads)
    roots = [*(paths.features / name for name in DIMS), paths.heads(EXPERIMENT) / "embeddings.zarr"]
    files = [file for root in roots for file in sorted(root.rglob("*")) if file.is_file()]

    def read_all() -> int:
        def part(number: int) -> int:
            buffer, total = bytearray(32 << 20), 0
            for path in files[number::count]:
                with open(path, "rb", buffering=0) as file:
                    while got := file.readinto(buffer):
                        total += got
            return total

        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(part, range(count)))

    runs = [measure.timed(read_all) for _ in range(REPEATS)]
    return {"bytes": runs[0][0], "reading": measure.summary(seconds for _, seconds in runs)}


def shown(paths: Paths) -> dict[str, Any]:
    """Make the site, serve it, and open it in a browser until its points are drawn."""
    command = [str(PYTHON), "-m", "eval.atlas.site", str(paths.results)]
    _, exporting = measure.timed(lambda: subprocess.run([*command, "--export-only"], cwd=measure.ROOT, check=True))
    size = sum(file.stat().st_size for file in (paths.report / "explore").rglob("*") if file.is_file())
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8") as server,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[2]
            with Browser(Path(folder)) as browser:
                start = time.perf_counter()
                browser.open(address)
                browser.wait(lambda: _coloured(browser) > DRAWN, 300)
                seconds = time.perf_counter() - start
                time.sleep(10)
                memory = sum(_own_memory(process) for process in _chromium())
                served = _own_memory(psutil.Process(server.pid))
        finally:
            server.terminate()
    return {
        "exporting": round(exporting, 2),
        "site_bytes": size,
        "drawn": round(seconds, 1),
        "browser_gb": round(memory / 1e9, 2),
        "server_gb": round(served / 1e9, 3),
    }


def _coloured(browser: Browser) -> float:
    """Return the share of the map's pixels that have a colour; 0 before there is a map."""
    box = browser.run(
        "const c = document.querySelector('canvas'); return c && Object.values(c.getBoundingClientRect().toJSON())"
    )
    if box is None:
        return 0.0
    left, top, width, height = map(int, box[:4])
    with Image.open(io.BytesIO(browser.picture())) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.int16)[
            top + 170 : top + height - 30, left + 10 : left + width - 10
        ]
    return float((pixels.max(axis=2) - pixels.min(axis=2) > 50).mean())


def _chromium() -> list[psutil.Process]:
    """Return the processes that this one has started, but for the server."""
    return [process for process in psutil.Process().children(recursive=True) if "chrom" in process.name()]


def _own_memory(process: psutil.Process) -> int:
    """Return the memory of a process in bytes; of what it shares with others, its share (PSS)."""
    return int(process.memory_full_info().pss)


def table(result: dict[str, Any]) -> str:
    """Return the costs as Markdown."""
    costs, bare, page = result["atlas"], result["floor"], result["site"]
    rows = [
        [
            f"writing the atlas ({costs['cpu']:.0f} s of processor time)",
            f"{costs['wall']:.0f}",
            f"{costs['memory_gb']:.1f}",
        ],
        [f"reading the {bare['bytes'] / 1e9:.1f} GB alone", f"{bare['reading']['median']:.1f}", ""],
        ["making the site", f"{page['exporting']:.1f}", ""],
        ["opening it, until the points are drawn", f"{page['drawn']:.0f}", f"{page['browser_gb']:.1f}"],
        ["serving it", "", f"{page['server_gb']:.2f}"],
    ]
    parts = ", ".join(
        f"{STAGES.get(stage, stage)} {seconds:.0f} s" for stage, seconds in costs["stages"].items() if seconds >= 0.5
    )
    return measure.markdown(
        [f"{costs['videos']:,} videos, one experiment, {result['threads']} cores", "s", "GB"], rows
    ) + (
        f"\n\nOf the writing: {parts}. {100 * costs['recall']:.1f} % of the true neighbours were found. "
        f"The atlas has {costs['bytes'] / 1e6:.0f} MB. The browser drew without a graphics card."
    )


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.atlas", config=False)
    command_line.add_argument("folder", type=Path, help="a folder to write")
    command_line.add_argument("--videos", type=int, default=VIDEOS)
    command_line.add_argument("--threads", type=int, default=2, metavar="N", help="cores (default 2)")
    arguments = command_line.parse_args()
    if not PYTHON.exists():
        raise UserError("there is no environment for the site; run `make .venv-explore/ready`")
    paths = Paths(arguments.folder)
    if not (arguments.folder / "heads").exists():
        plant(arguments.folder, arguments.videos, len(os.sched_getaffinity(0)), DIMS)
    if not (paths.heads(EXPERIMENT) / "embeddings.json").exists():
        raise UserError(f"{arguments.folder} was left unfinished; delete it")
    result: dict[str, Any] = {"threads": arguments.threads}
    result["floor"] = measure.child("bench.atlas", "floor", str(arguments.folder), str(arguments.threads))
    result["atlas"] = measure.child("bench.atlas", "atlas", str(arguments.folder), str(arguments.threads))
    result["site"] = shown(paths)
    result["bars"] = [
        measure.bar("atlas of 550,000 videos: largest memory (GB)", result["atlas"]["memory_gb"], at_most=3),
        measure.bar("atlas of 550,000 videos: share of the true neighbours", result["atlas"]["recall"], at_least=0.9),
    ]
    measure.save("atlas", "python -m bench.atlas FOLDER", result)


def _answer(part: str, folder: str, threads: str) -> dict[str, Any]:
    return written(folder, threads) if part == "atlas" else floor(folder, threads)


if __name__ == "__main__":
    measure.start(main, _answer)
