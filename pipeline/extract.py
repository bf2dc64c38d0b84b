"""Run one frozen backbone over one shard of videos.

Reads the manifest, the segments' starts that the probe found, the backbone's weights and the videos; writes the
backbone's shard in `features.zarr` with its `_valid` flags, its records, and its progress in `logs/progress/`.
Interrupted, it goes on where it was. On SIGTERM or Ctrl-C it takes no new videos, writes what is decoded and exits with
status 143 or 130.

Decoding runs in worker processes, the network here. With `threads: 1` the two take turns, so that a job never uses more
than its one core; with more, a third of them decode ahead while the network works.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from config.cli import Stopping, UserError, parser, run
from config.model import Config, read
from pipeline.backbones import entry, load_class, resolve_options
from pipeline.backbones.base import Backbone
from pipeline.readers import Decoded, MediaError
from pipeline.shard import Outcome, ShardJob
from pipeline.store import PROBE, read_array, stored_shard
from pipeline.workers import Pool, Task


def tasks(job: ShardJob, backbone: type[Backbone], options: dict[str, Any]) -> Iterator[Task[int]]:
    """A decoding task for every video that is still to be done and has segments; failures of the probe are noted."""
    modality = entry(job.part).modality
    fixed = {"seconds": job.config.segments.seconds, **backbone.request(options)}
    fixed["decoder"] = job.config.decoding.video if modality == "video" else "pyav"
    fixed["partial"] = job.config.decoding.partial
    probed = stored_shard(job.paths, PROBE, job.shard, job.plan["segment_key"])
    if probed is None or probed.rows < len(job.rows):
        raise UserError(f"shard {job.shard} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`")
    failed = {f.row: f.error() for f in probed.failures}
    starts = np.asarray(read_array(job.paths, "start")[job.rows.start : job.rows.stop])
    for video in job.todo():
        row = video["row"]
        if row in failed:
            job.journal.add(row, failed[row])
        else:
            seconds = [float(s) for s in starts[row - job.rows.start]]
            if not np.isfinite(seconds).all():
                # `pipeline.retry` made the probe forget it; the probe has to run first.
                raise UserError(
                    f"{video['path']} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`"
                )
            yield Task(row, f"pipeline.readers.first:{modality}", {"path": video["path"], "starts": seconds, **fixed})


def segments_of(
    answers: Iterator[tuple[int, Decoded | MediaError]], decoders: dict[int, str], good: dict[int, np.ndarray]
) -> Iterator[tuple[int, np.ndarray | MediaError]]:
    """(row, decoded segments or why there are none).

    By row, `decoders` gets who read them, and `good`, where some are damaged, which of them there are.
    """
    for row, answer in answers:
        if isinstance(answer, MediaError):
            yield row, answer
        else:
            decoders[row] = answer.decoder
            if answer.good is not None:
                good[row] = answer.good
            yield row, answer.segments


def spread(outcomes: Iterator[tuple[int, Outcome]], good: dict[int, np.ndarray]) -> Iterator[tuple[int, Outcome]]:
    """The outcomes with NaN where a video's segments were damaged: [segments, dim] again."""
    for row, outcome in outcomes:
        if row in good and isinstance(outcome, np.ndarray):
            whole = np.full((len(good[row]), *outcome.shape[1:]), np.nan, outcome.dtype)
            whole[good[row]] = outcome
            outcome = whole
        yield row, outcome


class Meter:
    """Where the time goes: waiting for decoded segments, or inside the network."""

    def __init__(self) -> None:
        self.decode = self.network = 0.0

    def shares(self) -> tuple[float, float]:
        """The shares of both in the time so far."""
        total = max(self.decode + self.network, 1e-9)
        return self.decode / total, self.network / total

    def __str__(self) -> str:
        decode, network = self.shares()
        return f"{decode:.0%} of the time waiting for decoding, {network:.0%} in the network"


def outcomes(
    decoded: Iterator[tuple[int, np.ndarray | MediaError]], backbone: Backbone, batch: int, meter: Meter
) -> Iterator[tuple[int, Outcome]]:
    """(row, [segments, dim] float16 or why not). Segments of several videos share a forward pass of up to `batch`."""
    waiting: list[tuple[int, np.ndarray]] = []
    clock = time.monotonic()
    for row, answer in decoded:
        meter.decode += time.monotonic() - clock
        if isinstance(answer, MediaError):
            yield row, answer
        else:
            waiting.append((row, answer))
            if sum(len(segments) for _, segments in waiting) >= batch:
                yield from _forward(waiting, backbone, meter)
                waiting = []
        clock = time.monotonic()
    if waiting:
        yield from _forward(waiting, backbone, meter)


def _forward(waiting: list[tuple[int, np.ndarray]], backbone: Backbone, meter: Meter) -> Iterator[tuple[int, Outcome]]:
    clock = time.monotonic()
    features = backbone.features(np.concatenate([segments for _, segments in waiting]))
    meter.network += time.monotonic() - clock
    with np.errstate(over="ignore"):
        features = features.astype(np.float16)
    for row, segments in waiting:
        mine, features = features[: len(segments)], features[len(segments) :]
        if np.isfinite(mine).all():
            yield row, mine
        else:
            yield row, MediaError("decode_error", "the network gave numbers that float16 cannot hold")


def device_of(config: Config, name: str) -> str:
    """`cpu` or `cuda`. UserError if a GPU is asked for and there is none."""
    wanted = config.backbones[name].device
    if wanted == "cpu" or config.backbones[name].options.get("engine") == "essentia":
        return "cpu"
    import torch  # only here: importing it costs seconds, and essentia must not share a process with it

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UserError(f"backbones.{name}.device is cuda, but PyTorch sees no GPU on this machine")
    return "cpu"


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.extract")
    p.add_argument("--backbone", required=True, help="name of a backbone of the configuration")
    p.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    arguments = p.parse_args()
    config, name = read(arguments.config), arguments.backbone
    if name not in config.backbones:
        raise UserError(f"--backbone {name}: the configuration has {sorted(config.backbones)}")
    settings = config.backbones[name]
    options = resolve_options(name, settings.options)
    kind = load_class(name)
    job = ShardJob(config, name, arguments.shard, (config.segments.count, kind.dim), np.float16)
    if job.plan["backbones"][name]["random_weights"]:
        job.log.warning("%s has RANDOM weights: its features are random projections, not learned ones", name)
    workers = max(1, settings.threads // 3)
    meter = Meter()
    with Stopping() as stop, job.journal, Pool(workers, config.decoding, stop) as pool:
        pending = list(tasks(job, kind, options))
        if pending:
            compute = max(1, settings.threads - workers)
            backbone = kind(job.paths.weights(name), options, device_of(config, name), compute)
            ahead = 0 if settings.threads == 1 else 2 * workers
            good: dict[int, np.ndarray] = {}
            decoded = segments_of(pool.results(pending, ahead), job.journal.decoders, good)
            job.note(spread(outcomes(decoded, backbone, settings.batch, meter), good), meter.shares)
            job.log.info("%s", meter)
            job.leave(stop)
        job.finish()


if __name__ == "__main__":
    run(main)
