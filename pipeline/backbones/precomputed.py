"""Features that somebody published or computed elsewhere: they are copied into the store, no video is opened.

`weights` is the path of their source (`feature_files/`). The weights file holds only its digests, so that these are
in the cache key, and a job can tell that the source has changed. Reads the source; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError
from pipeline.backbones.base import Kind, WeightsSource
from pipeline.readers import MediaError
from pipeline.weights import local

if TYPE_CHECKING:
    from pipeline.backbones.feature_files.base import FeatureFile

RULE = "mean of the rows that start in the segment, else the last before it, else the first after it"
LARGEST = float(np.finfo(np.float16).max)


class Precomputed(Kind):
    """The features of one source, for the videos and segments of a shard."""

    def __init__(self, weights: Path, source: Path, options: dict[str, Any], key: str) -> None:
        """Open the source. UserError if it is not the one whose digests `pipeline.weights` wrote to `weights`."""
        self.options, self.name = options, source.name
        self.file = _open(source, options, key)
        self.file.check_digests(load_file(weights))

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """See the base; `fetch` checks it against the source."""
        return int(options["dim"])

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """Check the source; return its digests instead of weights: the features stay where they are."""
        from pipeline.backbones.feature_files.base import KINDS

        path = local(source.name, source.key, KINDS)
        if path is None:
            raise UserError(f"{source.key}: '{source.name}' is not the path (with a `/`) of {KINDS}")
        file = _open(path, source.options, source.key.removesuffix(".weights"))
        return file.digests(), f"features of {path.name}"

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        names = {name: options[name] for name in ("modality", "id", "features", "start")}
        timed = {"rule": RULE, "reach": options["reach"]} if options["start"] else {}
        return {"extractor": 1, **names, **timed}

    def outcomes(
        self, ids: Sequence[str], starts: np.ndarray | None, segments: int, seconds: float
    ) -> Iterator[np.ndarray | MediaError]:
        """Yield for each video its features, [segments, dim] float16, or why it has none.

        `starts` [videos, segments] in seconds; None where the source has one row a video, which all segments get.
        UserError for a source that breaks its own rules, such as two rows of one id.
        """
        from pipeline.backbones.feature_files.gather import gather

        features, has_features = gather(self.file, ids, starts, seconds, self.options["reach"])
        with np.errstate(over="ignore", invalid="ignore"):
            stored = features.astype(np.float16)
        for number, video_id in enumerate(ids):
            if not has_features[number].any():
                where = (
                    f" near its segments (options.reach: {self.options['reach']:g} s)" if self.options["start"] else ""
                )
                yield MediaError("no_features", f"{self.name} has no features of '{video_id}'{where}")
            elif not has_features[number].all():
                first = starts[number][~has_features[number]][0] if starts is not None else 0.0
                reach = f"options.reach: {self.options['reach']:g} s"
                yield MediaError(
                    "no_features", f"{self.name} has no features of '{video_id}' near {first:.1f} s ({reach})"
                )
            elif not np.isfinite(features[number]).all():
                message = f"features of '{video_id}' in {self.name} are missing or not finite numbers"
                yield MediaError("bad_features", message)
            elif not np.isfinite(stored[number]).all():
                largest = np.abs(features[number]).max()
                message = f"has {largest:g}, but the store holds float16, at most {LARGEST:g}: scale the features down"
                yield MediaError("bad_features", f"{self.name}: '{video_id}' {message}")
            elif (features[number].any(axis=1) & ~stored[number].any(axis=1)).any():
                message = f"has nothing above {np.abs(features[number]).max():.1g}, which is 0 in the store's float16"
                yield MediaError("bad_features", f"{self.name}: '{video_id}' {message}: scale the features up")
            else:
                yield np.broadcast_to(stored[number], (segments, stored.shape[2])).copy()


def _open(path: Path, options: dict[str, Any], key: str) -> FeatureFile:
    # Only here: the Snakefile imports this module, and has no use for pyarrow.
    from pipeline.backbones.feature_files.base import Columns
    from pipeline.backbones.feature_files.gather import open_features

    return open_features(path, Columns(options["id"], options["features"], options["start"], options["dim"]), key)
