"""Copy the features of a shard from a source that somebody else made (kind `precomputed`). Opens no video.

Reads the source, the plan, the manifest and, for features with start times, the segments' starts that the probe found.
Writes what `pipeline.shard` writes, in the same way as for a network: journal, progress, records, failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError
from pipeline.backbones.chosen import Chosen
from pipeline.backbones.precomputed import Precomputed
from pipeline.readers import MediaError
from pipeline.records import PROBE
from pipeline.shard import Outcome, ShardJob, failed_rows
from pipeline.store import read_array, stored_shard


def copy_features(job: ShardJob, backbone: Chosen, stop: Callable[[], bool]) -> None:
    """Write to the journal the features of all videos of the shard that are left, until `stop` returns True.

    A source with one row a video needs no segments, so that videos whose file is gone have features, too. With start
    times, a video that the probe could not use fails for the probe's reason.
    """
    videos = job.todo()
    if not videos:
        return
    settings = job.config.backbones[backbone.name]
    source = Precomputed(job.paths.weights(backbone.name), Path(settings.weights), backbone.options, backbone.key)
    starts = None
    if backbone.options["start"]:
        starts, failed = _starts(job, videos)
        for row in (video["row"] for video in videos if video["row"] in failed):
            # Not through the job: nothing was fetched or tried, so that no failures in a row and no attempts count.
            job.journal.add(row, failed[row])
        known = np.array([video["row"] not in failed for video in videos])
        videos, starts = [video for video in videos if video["row"] not in failed], starts[known]
    job.note(_until(stop, videos, source, starts, job))


def _until(
    stop: Callable[[], bool],
    videos: list[dict[str, Any]],
    source: Precomputed,
    starts: np.ndarray | None,
    job: ShardJob,
) -> Iterator[tuple[int, Outcome]]:
    segments = job.config.segments
    ids = [video["video_id"] for video in videos]
    for video, outcome in zip(videos, source.outcomes(ids, starts, segments.count, segments.seconds), strict=True):
        if stop():
            return
        yield video["row"], outcome


def _starts(job: ShardJob, videos: list[dict[str, Any]]) -> tuple[np.ndarray, dict[int, MediaError]]:
    """Return the starts of the videos' segments, [n, segments] seconds, and the probe's failures by row."""
    probed = stored_shard(job.paths, PROBE, job.shard, job.plan.segment_key)
    starts = np.asarray(read_array(job.paths, "start")[job.rows.start : job.rows.stop])
    if probed is not None and probed.rows >= len(job.rows):
        failed = failed_rows(probed)
        mine = starts[[video["row"] - job.rows.start for video in videos]]
        left = [
            video["path"]
            for video, own in zip(videos, mine, strict=True)
            if video["row"] in probed.tried or (video["row"] not in failed and not np.isfinite(own).all())
        ]
        if not left:
            return mine, failed
    raise UserError(f"shard {job.shard} has not been probed; run `python -m pipeline.probe --shard {job.shard} …`")
