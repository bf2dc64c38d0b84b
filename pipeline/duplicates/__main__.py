"""Find groups of videos that are (nearly) the same by the cached features, and say how many stand in several splits.

    python -m pipeline.duplicates RESULTS
    python -m pipeline.duplicates RESULTS --on audio --threshold 0.9
    python -m pipeline.duplicates RESULTS --write-groups groups.csv

Reads a finished cache; writes RESULTS/duplicates/: duplicates.json (settings, counts, examples) and duplicates.csv (a
line a video of a group; `similarity` is that to the group's first). Nothing else changes: no video is left out
or moved. `snakemake duplicates` does the same, by the section `duplicates` of the configuration.

What is compared: the mean of a video's segments, of all pairs, then segments with the most similar segments. Two files
of one video have different segments unless their ids are equal: the segments' places follow from the id. So what is
found is one song with one look, at whatever seconds; a video of which half is cut off may be missed, and takes of one
song in one scene may be merged. docs/performance.md has measurements.

With `both`, the default, a copy of half the size is mostly missed (docs/performance.md: 1 of 6 rendered videos). `--on
audio` finds it, and with it the same song under other footage.

--write-groups FILE writes `video_id,group` for your table's column `group`, which is the unit of splits: groups or
artists that share duplicates are joined, with all their videos. The file has every group, also those that your table
had: replace the column by it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from config.cli import UserError, parser, results_folder, run
from config.model import read
from config.paths import Paths
from pipeline.duplicates.report import digests, groups_of, words, write
from pipeline.duplicates.search import search
from pipeline.duplicates.space import Stored, fit
from pipeline.duplicates.units import join, refuse_existing, write_groups
from pipeline.features import open_features
from pipeline.staging import own_folder

log = logging.getLogger("duplicates")


def duplicates(
    results: Path, backbones: dict[str, str], threshold: float, threads: int, groups_file: Path | None = None
) -> dict[str, Any]:
    """Find the groups, write the files and return the JSON.

    backbones: {`audio` or `video`: name}, of one modality or both. UserError for a backbone that the cache has not or
    that is of the other modality, for fewer than two videos with features, and for a `groups_file` that exists.
    """
    if groups_file is not None:
        refuse_existing(groups_file)
    paths, features = Paths(results), open_features(results, threads)
    for modality, name in backbones.items():
        if name not in features.backbones or features.modality(name) not in (modality, ""):
            there = [other for other in features.backbones if features.modality(other) in (modality, "")]
            raise UserError(f"--{modality} {name}: the cache's backbones of {modality} are {there}")
    rows = features.rows(valid=list(backbones.values()))
    if len(rows) < 2:
        raise UserError(
            f"{features.folder}: {len(rows)} videos have features of {list(backbones.values())}; 2 are needed"
        )
    work = paths.results / "work"
    work.mkdir(exist_ok=True)
    with own_folder(work, "duplicates.") as folder:
        spaces = [Stored.write(Path(folder), features, fit(features, name, rows), rows) for name in backbones.values()]
        firsts, alike_means = search(spaces, threshold, threads)
        groups = groups_of(firsts)
        about = {
            "on": "both" if len(backbones) > 1 else next(iter(backbones)),
            "backbones": backbones,
            "keys": {name: features.key(name) for name in backbones.values()},
            **digests(paths, backbones.values()),
            "random_weights": {name: features.random_weights(name) for name in backbones.values()},
            "components": {space.backbone: space.components for space in spaces},
            "threshold": threshold,
            "alike_means": alike_means,
        }
        written = write(paths, about, features.labels(rows), groups, spaces)
    for line in words(written, paths.duplicates_table):
        log.info(line)
    if groups_file is not None:
        manifest = features.labels()
        units = join(manifest, [rows[members] for members in groups])
        count = write_groups(groups_file, manifest, units)
        log.info("wrote the groups of %d videos to %s%s", count, groups_file, "" if count else ": there are none")
    return written


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.duplicates", "cores to use", config=False)
    command_line.add_argument("results", type=results_folder, metavar="RESULTS", help="the results folder")
    command_line.add_argument("--audio", metavar="NAME", help="backbone of the audio (default: heads.audio)")
    command_line.add_argument("--video", metavar="NAME", help="backbone of the video (default: heads.video)")
    command_line.add_argument(
        "--on", choices=("audio", "video", "both"), help="what has to be alike (default: duplicates.on, both)"
    )
    command_line.add_argument(
        "--threshold", type=float, metavar="X", help="similarity from which videos are the same (duplicates.threshold)"
    )
    command_line.add_argument(
        "--write-groups", type=Path, metavar="FILE", help="a CSV file of groups, which must not exist yet"
    )
    arguments = command_line.parse_args()
    config = read(Paths(arguments.results).config)
    on = arguments.on or config.duplicates.on
    threshold = config.duplicates.threshold if arguments.threshold is None else arguments.threshold
    if not 0 < threshold <= 1:
        raise UserError(f"--threshold {threshold:g} is not above 0 and at most 1")
    names = {"audio": arguments.audio or config.heads.audio, "video": arguments.video or config.heads.video}
    for modality in names:
        if on not in (modality, "both") and getattr(arguments, modality) is not None:
            raise UserError(f"--{modality} with --on {on}: leave one of them out")
    chosen = {modality: name for modality, name in names.items() if on in (modality, "both")}
    duplicates(arguments.results, chosen, threshold, arguments.threads, arguments.write_groups)


if __name__ == "__main__":
    run(main)
