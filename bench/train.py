"""Training at full size: epochs against the machine's matrix product, memory, time to the first batch, scaling.

    python -m bench.fill FOLDER       makes a cache of 550,000 videos, once
    python -m bench.train FOLDER      writes bench/results/training.json

An epoch of the paper's baseline, in memory and streamed in 4 GB, each in a process of its own. Its rate counts the
floating-point work of the matrix products (torch.utils.flop_counter, forward and backward) and nothing else; the floor
is a large float32 product in the same process, the fastest of numpy's, PyTorch's and oneDNN's. Beside it a slice of an
epoch with PyTorch's default kernels. Then config/paper.yaml's experiments on the first 10,000 videos, one seed of each
to its early stop. Reads the folder; writes nothing into it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from bench.fill import DIMS
from bench.measure import ROOT, SEGMENTS, bar, child, exponent, load, markdown, save, start, timed
from config.cli import parser

SIZES = (10_000, 50_000, 200_000, 550_000)
PARTS = ("memory", "stream", "paper")
THREADS = 2
STREAM_GB = 4.0
SLICE = 30


def restricted(features: Any, videos: int) -> Any:
    """Return the features of the first `videos` of the manifest."""
    splits = {}
    for name, split in features.splits.items():
        first = split.rows < videos
        splits[name] = replace(split, rows=split.rows[first], good=split.good[first])
    return replace(features, splits=splits)


def gflop(training: Any) -> float:
    """Count GFLOP of a pair's share of a full batch's forward and backward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    features = [torch.randn(training.experiment.batch, dim) for dim in training.data["train"].features.dims]
    with FlopCounterMode(display=False) as counter:
        training.loss(*training.heads(*features)).backward()
    return float(counter.get_total_flops() / 1e9 / training.experiment.batch)


def epoch(training: Any, number: int) -> dict[str, Any]:
    """Time one training pass and one validation pass."""
    seconds: dict[str, float] = {}
    whole = training._pass

    def timing(split: str, *rest: Any) -> Any:
        result, seconds[split] = timed(lambda: whole(split, *rest))
        return result

    training._pass = timing
    try:
        line = training.epoch(number)
    finally:
        del training._pass  # the class's is there again; kept as an attribute it would keep the features alive, too
    return {"pairs": line["train_pairs"], "seconds": seconds["train"], "validation_seconds": seconds["validation"]}


def slices(training: Any) -> dict[str, float]:
    """Return pairs a second over slices of an epoch: as it is, without keeping freed memory, with PyTorch's own."""
    from config.memory import keep_freed_memory
    from heads.kernels import kernels

    def pairs_a_second(matmul: str, kept: bool) -> float:
        done, clock = 0, 0.0
        with kernels(matmul, "cpu"):  # type: ignore[arg-type]
            if not kept:
                keep_freed_memory(128 << 10, 128 << 10)  # glibc's defaults
            for number, batch in enumerate(islice(training.data["train"].batches("one", 1000, 0, 0), SLICE + 3)):
                if number == 3:  # the first ones warm up
                    done, clock = 0, time.perf_counter()
                training.step(training.loss(*training.heads(*batch)), 0.0)
                done += len(batch[0])
        return done / (time.perf_counter() - clock)

    training.heads.train()
    return {
        "as it is": pairs_a_second("auto", True),
        "without keeping freed memory": pairs_a_second("auto", False),
        "PyTorch's matrix products and dropout": pairs_a_second("torch", False),
    }


def peak() -> dict[str, float]:
    """Measure GFLOP/s of a large float32 product: the best of three libraries, and PyTorch's own."""
    import torch

    from bench.network import peak_gflops

    a, b = torch.randn(4096, 4096), torch.randn(4096, 4096)
    seconds = min(timed(lambda: a @ b)[1] for _ in range(2))
    return {"best": peak_gflops(THREADS, 4096, 2), "torch": 2 * 4096**3 / seconds / 1e9}


def in_child(folder: str, mode: str, started: str) -> dict[str, Any]:
    """Measure in one process: `memory` (all sizes), `stream` or `paper`; `started`: when, in s since 1970."""
    from config.heads import Experiment
    from config.model import read
    from heads.dataset import Data, open_data
    from heads.features import load_features

    config = read(Path(folder) / "config.json").model_copy(update={"results": folder})
    features = load_features(config)
    if mode == "paper":
        return paper(config, restricted(features, SIZES[0]))
    sizes = [size for size in SIZES if size <= features.arrays[0].shape[0]] if mode == "memory" else [SIZES[-1]]
    limit, runs = None if mode == "memory" else STREAM_GB, list[dict[str, Any]]()
    # The largest first: its load is timed from the start of the process, as a user waits for it.
    for size in sorted(sizes, reverse=True):
        # As heads.train does it: PyTorch is imported while the features are read.
        clock = time.perf_counter()
        data: dict[str, Data] = open_data(restricted(features, size), "cpu", limit)
        from heads.fit import Training, deterministic
        from heads.kernels import kernels

        deterministic(THREADS)
        for split in data.values():
            if split.block is not None:
                split.block.wait()
        loaded = time.perf_counter() - clock
        training = Training(data, Experiment(), 0)
        if limit is None:
            next(data["train"].batches("one", 1000, 0, 1))
        to_first = time.time() - float(started)
        before = peak() if not runs else runs[0]["peak"]
        with kernels("auto", "cpu"):
            cost = epoch(training, 1)
        rate = cost["pairs"] * gflop(training) / cost["seconds"]
        runs.append({"videos": size, "load_seconds": loaded, **cost, "gflops": rate, "peak": before})
        if len(runs) == 1:
            runs[0]["first_batch_seconds"] = to_first
            runs[0]["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            runs[0]["slices"] = slices(training) if limit is None else {}
            after = peak()
            runs[0]["peak"] = {name: max(before[name], after[name]) for name in before}
        del training, data
    return {"runs": runs}


def paper(config: Any, features: Any) -> dict[str, Any]:
    """Train every experiment of config/paper.yaml with one seed to its early stop; return seconds and epochs."""
    from config.heads import Experiment
    from heads.dataset import open_data
    from heads.fit import about, deterministic, fit
    from heads.kernels import kernels
    from heads.runs import Run

    experiments = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))["heads"]["experiments"]
    deterministic(THREADS)
    data, results = open_data(features, "cpu", None), {}
    for name, settings in experiments.items():
        experiment = Experiment.model_validate(settings)
        heads = config.heads.model_copy(update={"experiments": {name: experiment}})
        description = about(config.model_copy(update={"heads": heads}), features, Run(name, 0, Path()))
        with tempfile.TemporaryDirectory() as folder, kernels("auto", "cpu"):
            state = Path(folder) / "state.safetensors"
            lines: list[dict[str, Any]] = []
            _, seconds = timed(lambda: fit(data, experiment, description, state, lines.append))  # noqa: B023
        results[name] = {"seconds": seconds, "epochs": len(lines), "validation_loss": lines[-1]["validation_loss"]}
    return results


def measure(folder: str, parts: Sequence[str]) -> dict[str, Any]:
    """Measure these children in turn; take the other parts from the committed result; add what follows from all."""
    results: dict[str, Any] = {part: result for part, result in (load("training") or {}).items() if part in PARTS}
    results |= {part: child("bench.train", folder, part, str(time.time())) for part in parts}
    bars: list[dict[str, Any]] = []
    for part, how in (("memory", "in memory"), ("stream", f"streamed in {STREAM_GB:g} GB")):
        if part in results:
            run = results[part]["runs"][0]
            for which, whose in (("torch", "PyTorch's matrix product"), ("best", "the fastest library's")):
                what = f"epoch of {run['videos']:,} videos {how} / {whose}"
                bars.append(bar(what, run["gflops"] / run["peak"][which], at_least=0.7))
    if "memory" in results:
        runs = results["memory"]["runs"]
        full, sizes = runs[0], [run["videos"] for run in runs]
        cache = full["videos"] * SEGMENTS * sum(DIMS.values()) * 2
        results["exponents"] = {
            what: exponent(sizes, [run[what] for run in runs]) for what in ("load_seconds", "seconds")
        }
        bars.append(
            bar(f"peak RSS, {full['videos']:,} videos in memory / the cache's bytes", full["rss"] / cache, at_most=1.25)
        )
        wait = full["first_batch_seconds"] - full["load_seconds"]
        bars.append(bar("first batch after the start, load time taken off (s)", wait, at_most=2))
    if "stream" in results:
        run = results["stream"]["runs"][0]
        bars.append(bar(f"peak RSS, {run['videos']:,} videos streamed (GB)", run["rss"] / 1e9, at_most=STREAM_GB))
    if "paper" in results:
        six = [result["seconds"] for name, result in results["paper"].items() if name != "recommended"]
        minutes = sum(six) * 5 / 60
        bars.append(bar(f"experiment 1: {len(six)} heads × 5 seeds, 10,000 videos (min)", minutes, at_most=10))
    return results | {"bars": bars}


def table(result: dict[str, Any]) -> str:
    """Return the epochs as Markdown."""
    rows = []
    for mode, words in (("memory", "in memory"), ("stream", f"streamed in {STREAM_GB:g} GB")):
        for run in result.get(mode, {"runs": []})["runs"]:
            rss = f"{run['rss'] / 1e9:.1f} GB" if "rss" in run else ""
            seconds = [f"{run[key]:.1f} s" for key in ("load_seconds", "seconds", "validation_seconds")]
            rate = [f"{run['gflops']:.0f}", f"{run['gflops'] / run['peak']['best']:.2f}"]
            rows.append([f"{run['videos']:,} videos {words}", *seconds, *rate, rss])
    header = ["", "load", "training pass", "validation pass", "GFLOP/s", "of the matrix product", "peak RSS"]
    return markdown(header, rows)


def main() -> None:
    """Measure, print and save."""
    command_line = parser(__doc__, "bench.train", config=False)
    command_line.add_argument("folder", help="a results folder that bench.fill made")
    command_line.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="measure only these, keep the others"
    )
    arguments = command_line.parse_args()
    result = measure(arguments.folder, arguments.parts)
    print(table(result))
    save("training", "python -m bench.train FOLDER", result)


if __name__ == "__main__":
    start(main, in_child)
