"""Find where the segments of one shard's videos begin: open each container once, for its duration.

Reads the manifest and the videos' containers; writes the shard's `start` and `duration` in `features.zarr`, and its
records. Every backbone then looks at the same seconds of the same video.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config.cli import Stopping, parser, run
from config.model import read
from data.segments import segment_starts
from pipeline.heartbeat import watched
from pipeline.readers import MediaError
from pipeline.shard import Outcome, ShardJob, run_shards, shard_arguments
from pipeline.store import PROBE
from pipeline.workers import Pool, Task


def outcomes(job: ShardJob, pool: Pool) -> Iterator[tuple[int, Outcome]]:
    """(row, [1 + segments] float32: duration and starts in seconds, or why there are none), in order."""
    spec = job.config.segments
    todo = job.todo()
    tasks = (Task(video, "pipeline.readers.probe:probe", {"path": video["path"]}) for video in todo)
    for video, answer in pool.results(tasks, ahead=4):
        if isinstance(answer, MediaError):
            yield video["row"], answer
            continue
        starts = segment_starts(video["video_id"], answer.duration, spec)
        if starts is None:
            message = f"it lasts {answer.duration:.2f} s, a segment {spec.seconds:g} s"
            yield video["row"], MediaError("too_short", message)
        else:
            yield video["row"], np.array([answer.duration, *starts], np.float32)


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.probe")
    shard_arguments(p)
    arguments = p.parse_args()
    config = read(arguments.config)

    def probe(shard: int, stop: Stopping) -> None:
        job = ShardJob(config, PROBE, shard, (1 + config.segments.count,), np.float32)
        with watched(job.progress, job.patience), job.journal, Pool(1, config.decoding, stop) as pool:
            job.note(outcomes(job, pool))
            job.leave(stop)
            job.finish()

    run_shards(config, PROBE, arguments, probe)


if __name__ == "__main__":
    run(main)
