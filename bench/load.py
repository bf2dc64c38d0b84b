"""Training beside other work: how long it takes on an idle machine and beside one busy process a core.

    python -m bench.load [--repeats 5] [--demo FOLDER]       writes bench/results/load.json

Three policies take turns, each time a whole `python -m heads.train` of the demo's baseline on planted features of the
demo's size: `brief` is what config/threads.py sets, `default` is OpenMP's own, whose threads spin for milliseconds when
they wait for each other, `passive` does not spin. One busy process a core leaves a job half of each core, so beside it
about twice the idle time is the least that is possible. `--demo` also runs the demo's workflow beside the same busy
processes into that folder, which must not exist, and counts minutes; without it the committed minutes are kept. All
else is written to a temporary folder. It takes about five minutes, the demo up to half an hour more. Nothing else may
run meanwhile: `idle` has to be true.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from bench.fill import DIMS, Planted, fill
from bench.measure import ROOT, bar, load, markdown, measured, save, start, summary, timed
from config.cli import UserError, parser
from config.model import Config
from config.model import load as load_config
from config.paths import Paths
from config.threads import NAMES, POLICY

POLICIES: dict[str, Mapping[str, str]] = {
    "brief": POLICY,
    "default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
"""Environment variables by policy. 300,000 is libgomp's count of spins where nobody sets anything; passive has none."""
KEYS = {name: letter * 64 for name, letter in zip(DIMS, "ab", strict=True)}
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))\n"
"""A process that is never idle, and ends with whoever started it."""


@contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run so many processes that do nothing but keep a core busy."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def planted(results: Path, videos: int, epochs: int | None = None) -> Config:
    """Make a cache of so many videos and the demo's baseline to train on it; `epochs`: fewer than the demo's."""
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    experiment = demo["heads"]["experiments"]["baseline"] | ({"max_epochs": epochs} if epochs else {})
    settings = {
        "results": str(results),
        "videos": "videos.csv",
        "segments": demo["segments"],
        "shard_videos": demo["shard_videos"],
        "heads": {"seeds": [0], "experiments": {"baseline": experiment}},
    }
    config = load_config(settings)
    fill(config, Planted(DIMS, KEYS), videos, 1)
    return config


def training(results: Path, threads: int, policy: Mapping[str, str]) -> dict[str, Any]:
    """Return wall and processor seconds of one whole training process, and its checkpoint's digest.

    RuntimeError with its stderr if it fails.
    """
    command = [sys.executable, "-m", "heads.train", "--config", str(results / "config.json"), "--threads", str(threads)]
    # What the caller's own shell says about waiting must reach neither policy.
    others = {name: value for name, value in os.environ.items() if name not in NAMES}

    def work() -> None:
        process = subprocess.run(command, cwd=ROOT, env=others | dict(policy), capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{process.stderr[-3000:]}")

    _, spent = measured(work)
    checkpoint = Paths(results).heads("baseline") / "checkpoint.safetensors"
    return {"wall": spent["wall"], "cpu": spent["cpu"], "digest": sha256(checkpoint.read_bytes()).hexdigest()}


def trainings(results: Path, cores: int, repeats: int) -> dict[str, Any]:
    """Train with every policy, idle and beside busy processes; return summaries of wall and processor seconds.

    The policies take turns, so that what else happens on the machine hits both. RuntimeError if results differ.
    """
    training(results, cores, POLICY)  # files are read from the disk once
    costs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    # Beside other work only what is set has a bar, and OpenMP's own policy takes minutes there: twice is enough.
    beside = {name: repeats if name == "brief" else min(repeats, 2) for name in POLICIES}
    for where, times in (("idle", dict.fromkeys(POLICIES, repeats)), ("beside", beside)):
        costs[where] = {name: [] for name in POLICIES}
        with busy(cores) if where == "beside" else nullcontext():
            for turn in range(repeats):
                for name, policy in POLICIES.items():
                    if turn < times[name]:
                        costs[where][name].append(training(results, cores, policy))
    digests = {run["digest"] for policies in costs.values() for runs in policies.values() for run in runs}
    if len(digests) != 1:
        raise RuntimeError(f"trainings of one seed gave {len(digests)} different checkpoints")

    def summaries(clock: str) -> dict[str, dict[str, dict[str, float]]]:
        return {
            where: {name: summary(run[clock] for run in runs) for name, runs in policies.items()}
            for where, policies in costs.items()
        }

    seconds, processor = summaries("wall"), summaries("cpu")
    return {"repeats": repeats, "threads": cores, "seconds": seconds, "processor_seconds": processor}


def demo(results: Path, cores: int) -> float:
    """Return the minutes of the demo's workflow beside busy processes, without its installation."""
    if results.exists():
        raise UserError(f"{results} exists: the demo has to start from nothing; choose another folder, or delete it")
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", "config/demo.yaml"]
    command += ["--config", f"results={results.resolve()}"]
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    with busy(cores):
        process, seconds = timed(lambda: subprocess.run(command, cwd=ROOT, env=env))
    minutes = seconds / 60
    if process.returncode:
        raise UserError(f"the demo failed after {minutes:.1f} minutes; its logs are in {results}/logs")
    return minutes


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the trainings and the demo have to reach."""
    idle, beside = (result["seconds"][where] for where in ("idle", "beside"))
    cost = 100 * (idle["brief"]["median"] / idle["default"]["median"] - 1)
    slower = beside["brief"]["median"] / idle["brief"]["median"]
    lines = [
        bar("a training on an idle machine, cost of waiting briefly (%)", cost, at_most=5),
        bar("a training beside one busy process a core / on an idle machine", slower, at_most=2.5),
    ]
    if result["demo_minutes"] is not None:
        lines.append(bar("the demo beside one busy process a core (min)", result["demo_minutes"], at_most=25))
    return lines


def table(result: dict[str, Any]) -> str:
    """Return the seconds on an idle machine and beside other work as Markdown: a policy a line."""
    words = {"brief": "briefly (config/threads.py)", "default": "as OpenMP does by itself", "passive": "not at all"}
    rows = []
    for name, policy in words.items():
        cells = []
        for where in ("idle", "beside"):
            wall = result["seconds"][where][name]
            cells.append(f"{wall['median']:.1f} s ({wall['min']:.1f} to {wall['max']:.1f})")
            cells.append(f"{result['processor_seconds'][where][name]['median']:.1f} s")
        ratio = result["seconds"]["beside"][name]["median"] / result["seconds"]["idle"][name]["median"]
        rows.append([policy, *cells, f"{ratio:.1f} ×"])
    beside = "beside one busy process a core: wall"
    text = markdown(["threads spin", "idle: wall", "processor", beside, "processor", "slower"], rows)
    if result["demo_minutes"] is not None:
        text += f"\n\nThe demo's workflow beside one busy process a core: {result['demo_minutes']:.0f} minutes."
    return text


def main() -> None:
    """Measure, print and save."""
    command_line = parser(__doc__, "bench.load", config=False)
    command_line.add_argument(
        "--repeats", type=int, default=5, help="trainings of each policy on the idle machine; default 5"
    )
    command_line.add_argument("--videos", type=int, default=240, help="size of the planted cache; default: the demo's")
    command_line.add_argument(
        "--demo", type=Path, metavar="FOLDER", help="run the demo, too, with its results in FOLDER"
    )
    command_line.add_argument("--dry", action="store_true", help="print the table and write no result")
    arguments = command_line.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        planted(Path(folder), arguments.videos)
        result = trainings(Path(folder), cores, arguments.repeats)
    result["demo_minutes"] = demo(arguments.demo, cores) if arguments.demo else (load("load") or {}).get("demo_minutes")
    result["bars"] = bars(result)
    print(table(result))
    if arguments.dry:
        print(json.dumps(result["bars"], indent=1, ensure_ascii=False))
    else:
        save("load", "python -m bench.load --demo FOLDER", result)


if __name__ == "__main__":
    start(main)
