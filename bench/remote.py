"""Videos on the network whose servers and lines fail: 200 faults of all kinds, through the real jobs.

    python -m bench.remote                      writes bench/results/remote.json
    python -m bench.remote --faults 40 --no-result --folder DIR

What must hold: no job dies, every video is in the arrays or in the ledger with the reason that its fault has, and the
features of all that could be fetched are to the byte those of a run on the same files from the disk. Exit status 1 if
it does not. Beside it: how fast a large file is fetched from nginx, and how fast by a bare download.
Writes the files and the results folders into a temporary folder (or DIR). Asks servers on this machine only.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from bench.fault_server import FaultServer
from bench.light import NAMES as LIGHT
from bench.remote_servers import KEYS, Authority, allowing, authority, bucket, nginx, verify
from bench.runs import Run, finish, working_folder, write_table
from config.cli import parser
from config.pipeline import Render
from config.remote import Remote
from data.places import Address, parse
from data.render import render_video
from pipeline.records import PROBE
from pipeline.remote.fetching import fetched

DEADLINE = 25.0
"""Seconds for a file: enough to wait once for a server that has fallen silent (10 s), and for five tries (8 s)."""
PATIENCE = 150.0
SHARD = 80
CLEAN = 6
"""Every so many videos one has no fault; so have the first ones of a shard, which a job asks before it begins."""
FILMS = 12
LARGE = 256 << 20
REPEATS = 5


@dataclass(frozen=True)
class Kind:
    """A fault: what the server does at the first request, the second and so on, and what must come of it.

    `digest`: the table has the file's sha256, without which the fault cannot be told. `weight`: how often it is used.
    """

    name: str
    plan: tuple[str, ...]
    expected: str = "ok"
    digest: bool = False
    weight: int = 4


def _always(name: str, fault: str, expected: str, digest: bool = False, weight: int = 4) -> Kind:
    return Kind(name, (fault,) * 9, expected, digest, weight)


KINDS = [
    Kind("cut", ("cut",), weight=6),
    Kind("cut three times", ("cut", "cut-by-reset", "cut"), weight=6),
    Kind("cut by a reset", ("cut-by-reset",), weight=6),
    Kind("cut, without an ETag", ("cut-without-etag",), weight=6),
    Kind("cut, then no ranges", ("cut", "no-ranges"), weight=6),
    Kind("cut, then another file", ("cut", "changed"), weight=6),
    Kind("cut, then the wrong part", ("cut", "wrong-part"), weight=6),
    Kind("reset twice", ("reset", "reset"), weight=6),
    Kind("500, then 502", ("500", "502"), weight=6),
    Kind("503 with a wait", ("503 1",), weight=6),
    Kind("429 with a wait", ("429 1", "429 1"), weight=6),
    Kind("408", ("408",), weight=6),
    Kind("interim answers first", ("early-hints",), weight=6),
    Kind("interim answers alone", ("hints-alone",), weight=3),
    Kind("no HTTP", ("garbage",), weight=6),
    Kind("5,000 headers", ("many-headers",), weight=6),
    Kind("a length that is too long", ("long",), weight=6),
    Kind("a length that is too short", ("short",), digest=True, weight=6),
    Kind("another file's bytes", ("another",), digest=True, weight=6),
    Kind("a login page", ("login",), digest=True, weight=6),
    Kind("silent after half of it", ("stall",), weight=3),
    _always("404", "404", "missing"),
    _always("410", "410", "missing"),
    _always("401", "401", "missing"),
    _always("403", "403", "missing"),
    _always("a redirect to another host", "redirect https://elsewhere.invalid/a.mp4", "missing"),
    _always("a redirect to a metadata service", "redirect http://169.254.169.254/latest/", "missing"),
    _always("a redirect to a file", "redirect file:///etc/hostname", "missing"),
    _always("packed", "packed", "unreadable"),
    _always("chunked", "chunked", "unreadable"),
    _always("no length", "no-length", "unreadable"),
    _always("two lengths", "two-lengths", "unreadable"),
    _always("always too short", "short", "unreadable", digest=True),
    _always("always another file's bytes", "another", "unreadable", digest=True),
    _always("always a login page", "login", "unreadable"),
    _always("always 500", "500", "network"),
    _always("always reset", "reset", "network"),
    _always("never HTTP", "garbage", "network"),
    _always("a wait of an hour", "503 3600", "network"),
    _always("always silent", "silent", "timeout", weight=2),
    _always("headers, a byte at a time", "drip-head", "timeout", weight=2),
    _always("a body, a byte at a time", "drip-body", "timeout", weight=2),
]


@dataclass(frozen=True)
class Item:
    """A video: its number, and the fault that it has in one of the jobs, if any."""

    number: int
    kind: Kind | None
    part: str

    @property
    def video_id(self) -> str:
        """Its id."""
        return f"v{self.number:03d}"

    @property
    def path(self) -> str:
        """Its path on the server."""
        return f"/clips/{self.video_id}.mp4"

    def expected(self, part: str) -> str:
        """Return the outcome that it must have in a part: the probe's failures are those of all."""
        return self.kind.expected if self.kind is not None and self.part in (PROBE, part) else "ok"


def planned(faults: int) -> list[Item]:
    """Return the videos: `faults` of them with one, in all jobs alike, and clean ones among them."""
    kinds = [kind for turn in range(max(kind.weight for kind in KINDS)) for kind in KINDS if turn < kind.weight]
    parts = (PROBE, *LIGHT)
    items: list[Item] = []
    used = 0
    while used < faults:
        number = len(items)
        if number % CLEAN == 0 or number % SHARD < 2:
            items.append(Item(number, None, PROBE))
        else:
            items.append(Item(number, kinds[used % len(kinds)], parts[used % len(parts)]))
            used += 1
    return items


def campaign(folder: Path, faults: int) -> dict[str, Any]:
    """Run everything in `folder` and count. The result is what bench/results/remote.json holds of the faults."""
    (folder / "films").mkdir()
    render = Render(videos=FILMS, seconds=(4.0, 6.0), seed=5)
    films = [render_video(render, number, folder / "films") for number in range(FILMS)]
    contents = [film.read_bytes() for film in films]
    items = planned(faults)
    own = {item.path: contents[item.number % FILMS] for item in items}
    local = write_table(folder / "local.parquet", [(item.video_id, films[item.number % FILMS]) for item in items])
    backbones = {name: {"weights": "random"} for name in LIGHT}
    here = Run(folder / "local", local, backbones, shard_videos=SHARD)
    made = authority(folder)
    problems: list[str] = []
    with (
        patch.dict(os.environ, KEYS),
        FaultServer(own.get, made.tls, defaultdict(list)) as web,
        FaultServer(own.get, made.tls, defaultdict(list), verify) as s3,
    ):
        servers = (web, s3)
        places = [
            f"https://localhost:{web.port}{item.path}" if item.number % 2 == 0 else f"s3:/{item.path}" for item in items
        ]
        digests = [
            hashlib.sha256(own[item.path]).hexdigest() if item.kind and item.kind.digest else None for item in items
        ]
        columns = {"video_id": [item.video_id for item in items], "path": places, "sha256": digests}
        table = folder / "remote.parquet"
        pq.write_table(pa.table(columns), table)
        remote = allowing(made, web.port, s3={"clips": bucket(s3.port)}, deadline_seconds=DEADLINE)
        decoding = {"remote": remote.model_dump(mode="json")}
        there = Run(folder / "remote", table, backbones, shard_videos=SHARD, decoding=decoding)
        jobs = 0
        for run in (here, there):
            run.prepare()
            for part in run.parts:
                for server in servers:
                    server.faults.clear()
                    if run is there:
                        server.faults.update(
                            {item.path: list(item.kind.plan) for item in items if item.kind and item.part == part}
                        )
                for shard in range(run.plan.shards):
                    ended = run.watch(part, shard, PATIENCE)
                    if run is there:
                        jobs += 1
                    if ended.status != 0:
                        problems.append(f"{part} shard {shard}: ended with {ended.status}: {ended.text}")
        requests = sum(len(server.requests) for server in servers)
    dead = len(problems)
    wrong = 0
    outcomes: dict[str, dict[str, int]] = {}
    for part in there.parts if not dead else ():
        found, features, right = there.outcomes(part), there.features(part), here.features(part)
        outcomes[part] = dict(Counter(found.values()).most_common())
        for item in items:
            name = item.kind.name if item.kind else "no fault"
            if found[item.video_id] != item.expected(part):
                problems.append(
                    f"{part}: {item.video_id} ({name}) is {found[item.video_id]}, not {item.expected(part)}"
                )
            elif found[item.video_id] == "ok" and features[item.video_id] != right[item.video_id]:
                wrong += 1
                problems.append(f"{part}: {item.video_id} ({name}) has other features than from the disk")
    by_kind = Counter(item.kind.name for item in items if item.kind)
    return {
        "faults": sum(by_kind.values()),
        "kinds": len(by_kind),
        "videos": len(items),
        "jobs": jobs,
        "dead_jobs": dead,
        "wrong_features": wrong,
        "not_as_expected": len(problems) - dead - wrong,
        "requests": requests,
        "deadline_seconds": DEADLINE,
        "problems": problems,
        "outcomes": outcomes,
        "by_kind": {kind.name: {"times": by_kind[kind.name], "outcome": kind.expected} for kind in KINDS},
    }  # fmt: skip


def throughput(folder: Path, size: int = LARGE, repeats: int = REPEATS) -> dict[str, Any]:
    """Fetch a large file from nginx over TLS, and download it barely, in turns; medians in MB a second."""
    root = folder / "large"
    root.mkdir()
    (root / "a.mp4").write_bytes(os.urandom(1 << 20) * (size >> 20))
    sha256 = hashlib.sha256((root / "a.mp4").read_bytes()).hexdigest()
    made = authority(root)
    with nginx(root, folder / "nginx", made) as port:
        address, settings = parse(f"https://localhost:{port}/a.mp4"), allowing(made, port)
        assert isinstance(address, Address)
        ways: dict[str, Callable[[], None]] = {
            "bare": lambda: _bare(made, port, size, root),
            "fetched": lambda: _fetched(address, settings, root, None),
            "fetched, digest checked": lambda: _fetched(address, settings, root, sha256),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                clock = time.perf_counter()
                way()
                rates[name].append(size / 1e6 / (time.perf_counter() - clock))
    return {
        "file_mb": size / 1e6,
        "repeats": repeats,
        "mb_a_second": {name: round(statistics.median(values)) for name, values in rates.items()},
        "all": {name: [round(value) for value in values] for name, values in rates.items()},
    }


def _bare(made: Authority, port: int, size: int, folder: Path) -> None:
    """Download without any check, with the same library, into a file without a name."""
    tls = ssl.create_default_context(cafile=str(made.file))
    connection = http.client.HTTPSConnection("localhost", port, context=tls)
    connection.request("GET", "/a.mp4")
    answer, written = connection.getresponse(), 0
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        while data := answer.read1(1 << 18):
            written += file.write(data)
    connection.close()
    if written != size:
        raise RuntimeError(f"nginx sent {written} of {size} bytes")


def _fetched(address: Address, settings: Remote, folder: Path, sha256: str | None) -> None:
    with fetched(address, settings.model_dump_json(), str(folder), sha256):
        pass


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.remote", config=False)
    command_line.add_argument("--faults", type=int, default=200)
    command_line.add_argument("--folder", type=Path, help="keep the files and results here")
    command_line.add_argument("--no-result", action="store_true", help="print the result instead of writing it")
    arguments = command_line.parse_args()
    with working_folder(arguments.folder) as folder:
        result = campaign(folder, arguments.faults)
        result["throughput"] = throughput(folder)
    finish("remote", f"python -m bench.remote --faults {arguments.faults}", result, keep=not arguments.no_result)


if __name__ == "__main__":
    main()
