"""Run one frozen backbone over one shard of videos.

Reads the manifest, the segments' starts that the probe found, the backbone's weights and the videos; writes the
backbone's shard in `features.zarr` with its `_valid` flags, its records, and its progress in `logs/progress/`.
Run again, it resumes. On SIGTERM or Ctrl-C it takes no new videos, writes what is decoded and exits with
status 143 or 130.

Decoding runs in worker processes, the network here; `pipeline.forward` shares the cores between them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from config.cli import Stopping, UserError, parser, run
from config.model import Config, read
from pipeline.backbones import Chosen, chosen
from pipeline.forward import Layout, Meter, layout, outcomes
from pipeline.precomputed import copy_features
from pipeline.readers import Decoded, MediaError
from pipeline.readers.downmix import LOSS
from pipeline.records import PROBE, read_plan
from pipeline.shard import Outcome, ShardJob, failed_rows, run_shards, shard_arguments
from pipeline.staging import staging
from pipeline.store import read_array, stored_shard
from pipeline.workers import Pool, Task


def tasks(job: ShardJob, backbone: Chosen, folder: str | None = None) -> Iterator[Task[int]]:
    """Yield a decoding task for every video that is left and has segments; add the probe's failures to the journal.

    `folder`: where videos are copied before decoding; None: not copied.
    """
    modality = backbone.modality
    fixed = {"seconds": job.config.segments.seconds, **asdict(backbone.load().request(backbone.options))}
    fixed["decoder"] = job.config.decoding.video if modality == "video" else "pyav"
    fixed |= {"partial": job.config.decoding.partial, "staging": folder}
    probed = stored_shard(job.paths, PROBE, job.shard, job.plan.segment_key)
    if probed is None or probed.rows < len(job.rows):
        raise UserError(f"shard {job.shard} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`")
    failed = failed_rows(probed)
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
            request = {"path": video["path"], "starts": seconds, "timeline": probed.timeline(row), **fixed}
            yield Task(row, f"pipeline.readers.first:{modality}", request)


def segments_of(
    answers: Iterator[tuple[int, Decoded | MediaError]],
    decoders: dict[int, str],
    good: dict[int, np.ndarray],
    mono_loss: dict[int, float],
) -> Iterator[tuple[int, np.ndarray | MediaError]]:
    """Yield (row, decoded segments or a MediaError), and fill the three dicts by row.

    `decoders`: the decoder's name; `good`, where segments are damaged: bool [segments], which are not; `mono_loss`,
    where mixing to mono lost more than LOSS: the loss (dB).
    """
    for row, answer in answers:
        if isinstance(answer, MediaError):
            yield row, answer
        else:
            decoders[row] = answer.decoder
            if answer.good is not None:
                good[row] = answer.good
            if answer.mono_loss > LOSS:
                mono_loss[row] = round(answer.mono_loss, 1)
            yield row, answer.segments


def spread(outcomes: Iterator[tuple[int, Outcome]], good: dict[int, np.ndarray]) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcomes with NaN for damaged segments, so that all arrays are [segments, dim]."""
    for row, outcome in outcomes:
        if row in good and isinstance(outcome, np.ndarray):
            whole = np.full((len(good[row]), *outcome.shape[1:]), np.nan, outcome.dtype)
            whole[good[row]] = outcome
            outcome = whole
        yield row, outcome


def device_of(config: Config, name: str) -> str:
    """Return `cpu` or `cuda`. UserError if a GPU was asked for, or given by a scheduler, and none is seen."""
    wanted, runs_on = config.backbones[name].device, chosen(config, name).engine
    if wanted == "cuda" and runs_on != "torch":
        raise UserError(f"backbones.{name}.device: cuda, but {runs_on} computes it on the CPU; use auto or cpu")
    if wanted == "cpu" or runs_on != "torch":
        return "cpu"
    import torch  # only here: importing it costs seconds, and essentia must not share a process with it

    if torch.cuda.is_available():
        return "cuda"
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if given not in ("", "-1", "NoDevFiles"):
        raise UserError(
            f"this job was given the GPU {given} (CUDA_VISIBLE_DEVICES), but PyTorch {torch.__version__} sees none on "
            f"{socket.gethostname()}: its driver is missing, too old or broken, or this PyTorch was built without "
            f"CUDA. Nothing was computed; mend it, or set backbones.{name}.device: cpu."
        )
    if wanted == "cuda":
        raise UserError(f"backbones.{name}.device is cuda, but PyTorch sees no GPU on this machine")
    return "cpu"


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.extract")
    p.add_argument("--backbone", required=True, help="name of a backbone of the configuration")
    shard_arguments(p)
    arguments = p.parse_args()
    config, name = read(arguments.config), arguments.backbone
    if name not in config.backbones:
        raise UserError(f"--backbone {name}: the configuration has {sorted(config.backbones)}")
    run_shards(config, name, arguments, lambda shard, stop: extract(config, name, shard, stop=stop))


def extract(config: Config, name: str, shard: int, cores: Layout | None = None, stop: Stopping | None = None) -> Meter:
    """Run the backbone `name` over one shard and put the shard in place. UserError for what the user can mend.

    `cores`: how to share the job's cores; by default what `layout` chooses for its threads. `stop`: by default the
    signals that come meanwhile.
    """
    if stop is None:
        with Stopping() as stop:
            return extract(config, name, shard, cores, stop)
    planned = read_plan(config.paths).backbones[name]
    settings, backbone = config.backbones[name], chosen(config, name).described(planned.weights)
    width = planned.dim
    job = ShardJob(config, name, shard, (config.segments.count, width), np.float16)
    if job.plan.backbones[name].random_weights:
        job.log.warning("%s has RANDOM weights: its features are random projections, not learned ones", name)
    device = device_of(config, name)
    if backbone.engine == "files":
        with job.watch, job.journal:
            copy_features(job, backbone, stop)
            job.leave(stop)
            job.finish()
        return Meter()
    cores = cores or layout(settings.threads, device, engine_threads=backbone.engine == "essentia")
    meter = Meter()
    with (
        job.watch,
        job.journal,
        staging(config.decoding.staging, job.paths.results) as folder,
        Pool(cores.decoders, config.decoding, stop) as pool,
    ):
        pending = list(tasks(job, backbone, folder))
        if pending:
            network = backbone.build(job.paths.weights(name), device, cores.threads)
            good: dict[int, np.ndarray] = {}
            decoded = segments_of(pool.results(pending, cores.ahead), job.journal.decoders, good, job.journal.mono_loss)
            # On a CPU every segment is a forward pass of its own: nothing is gained by waiting for more of them.
            batch = 1 if device == "cpu" else settings.batch
            job.note(spread(outcomes(decoded, network, batch, cores.passes, meter), good), meter.shares)
            job.log.info("%s", meter)
            job.leave(stop)
        job.finish()
    return meter


if __name__ == "__main__":
    run(main)
