"""Find where the segments of one shard's videos begin: open each container, for its duration and its keyframes.

Reads the manifest and the videos' containers; writes the shard's `start` and `duration` in `features.zarr`, and its
records, in which also stands how the clock of a file is to be mended (`timelines`). Every backbone then looks at the
same seconds of the same video.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from config.cli import Stopping, UserError, parser, run
from config.model import read
from config.pipeline import Segments
from data.manifest import beside_path, separate_audio
from data.segments import segment_starts
from pipeline.readers import MediaError
from pipeline.records import PROBE
from pipeline.remote.check import check_access
from pipeline.shard import Outcome, ShardJob, run_shards, shard_arguments
from pipeline.workers import Pool, Task


def outcomes(job: ShardJob, pool: Pool) -> Iterator[tuple[int, Outcome]]:
    """Yield (row, [1 + segments] float32: duration and starts in seconds, or a MediaError), in order."""
    spec = job.config.segments
    tasks = (task(video, spec) for video in job.todo())
    segments = at_keyframes = 0
    for video, answer in pool.results(tasks, ahead=4):
        if isinstance(answer, MediaError):
            if answer.message.startswith("audio_path: "):  # the reader knows the open file, not its name
                answer.message = f"audio_path {video['audio_path']}: {answer.message.removeprefix('audio_path: ')}"
            yield video["row"], answer
            continue
        usable = answer.duration - answer.begin
        starts = segment_starts(video["video_id"], usable, spec)
        if starts is None:
            beside = separate_audio(video)
            yield video["row"], MediaError("too_short", too_short(usable, spec.seconds, beside))
        else:
            if answer.timeline:
                job.journal.timelines[video["row"]] = list(answer.timeline)
            starts = starts + answer.begin if spec.start == "random" else answer.starts
            segments, at_keyframes = segments + spec.count, at_keyframes + answer.at_keyframes
            yield video["row"], np.array([answer.duration, *starts], np.float32)
    if spec.start == "keyframe":
        job.log.info("%d of %d segments begin at a keyframe, the others at random", at_keyframes, segments)


def task(video: dict[str, Any], spec: Segments) -> Task[dict[str, Any]]:
    """Return the task of a decoding process that opens a video (a row of the manifest)."""
    arguments = {"path": video["path"], **beside_path(video)}
    if spec.start == "random":
        return Task(video, "pipeline.readers.container:probe", arguments)
    return Task(video, "pipeline.readers.keyframes:probe", arguments | {"video_id": video["video_id"], "spec": spec})


def too_short(duration: float, seconds: float, beside: dict[str, Any]) -> str:
    """Say how long a video is beside a segment (both s), with as many digits as tell the two apart.

    `beside` is what `separate_audio` returns: with audio of its own, what the two have in common counts.
    """
    for digits in range(2, 10):
        if float(f"{duration:.{digits}f}") < seconds:
            break
    if beside:
        offset = beside.get("audio_offset", 0.0)
        return (
            f"video and audio have {duration:.{digits}f} s in common with audio_path and audio_offset {offset:g}, a "
            f"segment has {seconds:g} s"
        )
    return f"it lasts {duration:.{digits}f} s, a segment {seconds:g} s"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.probe")
    shard_arguments(command_line)
    arguments = command_line.parse_args()
    config = read(arguments.config)

    def probe(shard: int, stop: Stopping) -> None:
        job = ShardJob(config, PROBE, shard, (1 + config.segments.count,), np.float32)
        with job.journal, job.watch, Pool(1, config.decoding, stop, config.paths.shard_indexes) as pool:
            check_access(job.todo(), config.decoding.remote)
            try:
                job.note(outcomes(job, pool))
            except UserError:
                job.forget_unfetched()
                raise
            job.leave(stop)
            job.finish()

    run_shards(config, [PROBE], arguments, probe)


if __name__ == "__main__":
    run(main)
