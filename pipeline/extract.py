"""Run one frozen backbone over one shard of videos, or several of one modality that share one decoding (a pass).

    python -m pipeline.extract --config … --backbone A --backbone B --shard 17

Reads the manifest, the segments' starts that the probe found, the backbones' weights and the videos; writes each
backbone's shard in `features.zarr` with its `_valid` flags, its records, and its progress in `logs/progress/`.
Run again, it resumes; a video is decoded for those backbones alone that lack it. On SIGTERM or Ctrl-C it takes no new
videos, writes what is decoded and exits with status 143 or 130.

Decoding runs in worker processes, the networks here; `pipeline.forward` shares the cores between them. What a backbone
gets does not depend on which others are in its pass: where one reading for all fails, each gets one of its own.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np

from config.cli import Progress, Stopping, UserError, parser, run
from config.model import Config, read
from config.pipeline import Backbone as Settings
from data.manifest import separate_audio
from pipeline.backbones.chosen import Chosen, chosen
from pipeline.forward import Layout, Meter, Network, layout, outcomes
from pipeline.passes import refuse_mixtures
from pipeline.precomputed import copy_features
from pipeline.readers import AudioRequest, Decoded, MediaError, VideoRequest
from pipeline.readers.downmix import LOSS
from pipeline.records import PROBE, Record, read_plan
from pipeline.remote.check import check_access
from pipeline.shard import Outcome, ShardJob, failed_rows, run_shards, shard_arguments
from pipeline.staging import staging
from pipeline.store import read_array, stored_shard
from pipeline.workers import Pool, Task


class Lane:
    """One backbone of a pass: its job on the shard, and what it needs of a decoded video."""

    def __init__(self, config: Config, name: str, shard: int) -> None:
        planned = read_plan(config.paths).backbones[name]
        self.backbone: Chosen = chosen(config, name).described(planned.weights)
        self.name, self.device = name, device_of(config, name)
        self.request: AudioRequest | VideoRequest = self.backbone.load().request(self.backbone.options)
        self.job = ShardJob(config, name, shard, (config.segments.count, planned.dim), np.float16)
        self.lacking: set[int] = {video["row"] for video in self.job.todo()}
        """Rows without an outcome."""
        self.good: dict[int, np.ndarray] = {}
        """By row, where segments are damaged: bool [segments], which are not."""
        self.finished = False
        self.error: UserError | None = None
        """Why the shard could not be put in place."""

    def network(self, settings: Settings, threads: int) -> Network:
        """Build the network; `threads` are the cores of one forward pass."""
        # On a CPU every segment is a forward pass of its own: nothing is gained by waiting for more of them.
        batch = 1 if self.device == "cpu" else settings.batch
        return Network(self.backbone.build(self.job.paths.weights(self.name), self.device, threads), batch)

    def segments(self, row: int, answer: Decoded | MediaError) -> Outcome:
        """Return the decoded segments, or the failure, and keep what else is known of them."""
        if isinstance(answer, MediaError):
            return copy.copy(answer)  # each backbone counts its own attempts
        self.job.journal.decoders[row] = answer.decoder
        if answer.good is not None:
            self.good[row] = answer.good
        if answer.mono_loss > LOSS:
            self.job.journal.mono_loss[row] = round(answer.mono_loss, 1)
        return answer.segments

    def take(self, row: int, outcome: Outcome) -> None:
        """Write an outcome to the journal, with NaN for damaged segments, so that all arrays are [segments, dim]."""
        if row in self.good and isinstance(outcome, np.ndarray):
            whole = np.full((len(self.good[row]), *outcome.shape[1:]), np.nan, outcome.dtype)
            whole[self.good[row]] = outcome
            outcome = whole
        self.job.add(row, outcome)
        self.lacking.discard(row)

    def finish(self) -> None:
        """Put the shard in place once every row has an outcome. An error waits: the other backbones go on."""
        if self.lacking or self.finished:
            return
        self.finished = True
        try:
            self.job.finish()
        except UserError as error:
            self.error = error


def tasks(lanes: Sequence[Lane]) -> Iterator[Task[int]]:
    """Yield a decoding task for every video that a lane lacks and that has segments; add the probe's failures.

    The answer to a task is that of the only request, or a list of answers in the order of `requests(lanes, row)`.
    """
    job = lanes[0].job
    modality = lanes[0].backbone.modality
    fixed: dict[str, Any] = {"seconds": job.config.segments.seconds}
    fixed["decoder"] = job.config.decoding.video if modality == "video" else "pyav"
    partial = {"partial": job.config.decoding.partial}
    reader = f"pipeline.readers.first:{modality}"
    probed = _probed(job)
    failed = failed_rows(probed)
    starts = np.asarray(read_array(job.paths, "start")[job.rows.start : job.rows.stop])
    for video in job.videos.to_pylist():
        row = video["row"]
        wanted = requests(lanes, row)
        if row in failed:
            for lane in lanes:
                if row in lane.lacking:
                    lane.job.journal.add(row, copy.copy(failed[row]))
                    lane.lacking.discard(row)
        elif wanted:
            seconds = [float(start) for start in starts[row - job.rows.start]]
            if row in probed.tried or not np.isfinite(seconds).all():
                # `pipeline.retry` made the probe forget it; the probe has to run first.
                raise UserError(
                    f"{video['path']} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`"
                )
            file = _file(video, modality, seconds, probed.timeline(row)) | fixed
            alone = [Task(row, reader, file | asdict(request) | partial) for request in wanted]
            yield alone[0] if len(alone) == 1 else Task(row, f"{reader}s", file | {"requests": wanted}, parts=alone)


def _file(video: dict[str, Any], modality: str, starts: list[float], timeline: list[float] | None) -> dict[str, Any]:
    """Return which file a pass reads of a video, and where in it (s); `starts` and `timeline` are the probe's."""
    own = {"path": video["path"], "starts": starts, "timeline": timeline}
    own |= {} if video["sha256"] is None else {"sha256": video["sha256"]}
    separate = separate_audio(video)
    if not separate:
        return own
    if modality == "video":
        return own | {"kinds": ("video",)}
    shifted = [start + separate["audio_offset"] for start in starts]
    return {"path": separate["audio_path"], "starts": shifted, "timeline": None, "kinds": ("audio",)}


def requests(lanes: Sequence[Lane], row: int) -> list[AudioRequest | VideoRequest]:
    """Return what the lanes that lack a row need of it, each once."""
    return list(dict.fromkeys(lane.request for lane in lanes if row in lane.lacking))


def _probed(job: ShardJob) -> Record:
    record = stored_shard(job.paths, PROBE, job.shard, job.plan.segment_key)
    if record is None or record.rows < len(job.rows):
        raise UserError(f"shard {job.shard} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`")
    return record


def handed_out(answers: Iterator[tuple[int, Any]], lanes: Sequence[Lane]) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """Yield for each row {lane that lacks it: its decoded segments or a MediaError}."""
    for row, answer in answers:
        wanted = requests(lanes, row)
        by_request = dict(zip(wanted, answer if isinstance(answer, list) else [answer] * len(wanted), strict=True))
        yield row, {lane.name: lane.segments(row, by_request[lane.request]) for lane in lanes if row in lane.lacking}


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
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.extract")
    command_line.add_argument(
        "--backbone",
        required=True,
        action="append",
        help="name of a backbone of the configuration; given again: further ones of the same modality, decoded once",
    )
    shard_arguments(command_line)
    arguments = command_line.parse_args()
    config, names = read(arguments.config), list(dict.fromkeys(arguments.backbone))
    for name in names:
        if name not in config.backbones:
            raise UserError(f"--backbone {name}: the configuration has {sorted(config.backbones)}")
    refuse_mixtures(config, names)
    run_shards(config, names, arguments, lambda shard, stop: extract(config, names, shard, stop=stop))


def extract(
    config: Config, names: Sequence[str], shard: int, cores: Layout | None = None, stop: Stopping | None = None
) -> Meter:
    """Run backbones of one modality over one shard and put it in place. UserError for what the user can mend.

    `cores`: how to share the job's cores; by default what `layout` chooses for the most threads that one of them has.
    `stop`: by default the signals that come meanwhile.
    """
    if stop is None:
        with Stopping() as stop:
            return extract(config, names, shard, cores, stop)
    meter = Meter()
    if chosen(config, names[0]).engine == "files":  # alone: `refuse_mixtures`
        copy_shard(config, names[0], shard, stop)
        return meter
    with ExitStack() as stack:
        lanes = []
        for name in names:
            lane = Lane(config, name, shard)
            stack.enter_context(lane.job.journal)
            lanes.append(lane)
            if lane.job.plan.backbones[name].random_weights:
                lane.job.log.warning(
                    "%s has RANDOM weights: its features are random projections, not learned ones", name
                )
        cores = cores or _layout(config, lanes)
        watched = lanes[0].job.watch
        for lane in lanes[1:]:
            watched.others.append(lane.job.progress)
            lane.job.watch = watched
        stack.enter_context(watched)
        folder = stack.enter_context(staging(config.decoding.staging, config.paths.results))
        indexes = config.paths.shard_indexes
        pool = stack.enter_context(Pool(cores.decoders, config.decoding, stop, indexes, folder))
        pending = list(tasks(lanes))
        for lane in lanes:
            lane.finish()
        if pending:
            check_access((task.arguments for task in pending), config.decoding.remote)
            try:
                _compute(config, lanes, pool.results(pending, cores.ahead), cores, meter)
            except UserError:
                for lane in lanes:
                    if not lane.finished:
                        lane.job.forget_unfetched()
                raise
            for lane in lanes:
                lane.job.leave(stop)
        for lane in lanes:
            if lane.error is not None:
                raise lane.error
    return meter


def copy_shard(config: Config, name: str, shard: int, stop: Stopping) -> None:
    """Copy one shard of a backbone whose features exist already."""
    planned = read_plan(config.paths).backbones[name]
    job = ShardJob(config, name, shard, (config.segments.count, planned.dim), np.float16)
    with job.journal, job.watch:
        copy_features(job, chosen(config, name).described(planned.weights), stop)
        job.leave(stop)
        job.finish()


def _layout(config: Config, lanes: Sequence[Lane]) -> Layout:
    """Return the layout for a pass: a GPU's if one of the networks is on it."""
    threads = max(config.backbones[lane.name].threads for lane in lanes)
    device = next((lane.device for lane in lanes if lane.device != "cpu"), "cpu")
    return layout(threads, device, engine_threads=any(lane.backbone.engine == "essentia" for lane in lanes))


def _compute(
    config: Config, lanes: Sequence[Lane], answers: Iterator[tuple[int, Any]], cores: Layout, meter: Meter
) -> None:
    """Run the networks of the lanes that lack videos over the answers of the decoders."""
    working = {lane.name: lane for lane in lanes if lane.lacking}
    networks = {name: lane.network(config.backbones[name], cores.threads) for name, lane in working.items()}
    with ExitStack() as stack:
        shown: dict[str, Progress] = {
            name: stack.enter_context(lane.job.shown(meter.shares)) for name, lane in working.items()
        }
        for name, row, outcome in outcomes(handed_out(answers, lanes), networks, cores.passes, meter):
            working[name].take(row, outcome)
            shown[name].step()
            for other, progress in shown.items():
                if working[other].lacking:  # its own videos may come much later
                    progress.speak()
            working[name].finish()
    lanes[0].job.log.info("%s", meter)


if __name__ == "__main__":
    run(main)
