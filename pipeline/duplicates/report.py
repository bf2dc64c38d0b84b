"""What was found, counted and written: `duplicates/duplicates.json` and `duplicates/duplicates.csv`.

Reads the manifest's rows and the files of `space` that it is given, and the records of the manifest and the cache;
writes those two files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from config.cli import printable
from config.files import read_json, replacing, write_json
from config.paths import Paths
from data.splits import SPLITS
from pipeline.duplicates.search import by_means, by_segments
from pipeline.duplicates.space import Stored, blocks

EXAMPLES, SHOWN = 10, 5
"""Groups in the JSON, the largest first, and videos shown of each."""
RANDOM_PAIRS = 200_000
"""Pairs drawn at random to see how alike different videos are, at most."""
QUANTILES = (0.5, 0.99, 0.999, 0.9999)
COLUMNS = ("group", "video_id", "row", "split", "artist", "path", "similarity")
BLOCK = 10_000


def groups_of(firsts: np.ndarray) -> list[np.ndarray]:
    """Return the members of each group of two or more, int64 [members] ascending; the largest group first.

    firsts: int64 [videos], the position of the group's first video.
    """
    order = np.argsort(firsts, kind="stable")
    edges = np.flatnonzero(np.diff(firsts[order], prepend=-1)).tolist()
    groups = [order[low:high] for low, high in zip(edges, [*edges[1:], len(order)], strict=True) if high - low > 1]
    return sorted(groups, key=lambda members: (-len(members), int(members[0])))


def similarity(spaces: Sequence[Stored], pairs: np.ndarray) -> np.ndarray:
    """Return what is compared with the threshold, of pairs int64 [n, 2]: float32 [n]."""
    smallest = np.empty(len(pairs), np.float32)
    for start, stop in blocks(len(pairs), BLOCK):
        part = pairs[start:stop]
        smallest[start:stop] = np.minimum(by_means(spaces, part), by_segments(spaces, part))
    return smallest


def random_pairs(spaces: Sequence[Stored], threshold: float, seed: int = 0) -> dict[str, Any]:
    """Return quantiles of the similarity of randomly drawn pairs, and how many of them are alike.

    In a large collection nearly all of them are pairs of different videos, so this says how alike different videos are.
    """
    videos = spaces[0].videos
    count = min(RANDOM_PAIRS, videos * (videos - 1) // 2)
    rng = np.random.default_rng(seed)
    first = rng.integers(videos, size=count)
    pairs = np.stack([first, (first + 1 + rng.integers(videos - 1, size=count)) % videos], axis=1)
    drawn = similarity(spaces, pairs)
    return {
        "pairs": count,
        "alike": int((drawn >= np.float32(threshold)).sum()),
        "quantiles": {f"{q:g}": round(float(np.quantile(drawn, q)), 4) for q in QUANTILES},
    }


def across(groups: Sequence[np.ndarray], splits: np.ndarray) -> dict[str, Any]:
    """Count the groups whose videos are in several splits, and videos of one split that have a duplicate in another.

    groups: positions, int64 [members] each; splits: text or None [videos].
    """
    counts = {f"{split}_with_{other}": 0 for split in SPLITS for other in SPLITS if other != split}
    several = 0
    for members in groups:
        present = [str(split) for split in splits[members] if split is not None]
        several += len(set(present)) > 1
        for split in present:
            for other in set(present) - {split}:
                counts[f"{split}_with_{other}"] += 1
    return {"groups": several, "videos": counts}


def digests(paths: Paths, backbones: Iterable[str]) -> dict[str, Any]:
    """Return the digests of what duplicates are looked for in: `features` by backbone, and `manifest`.

    None where there is no record of it: a cache that the workflow has not finished.
    """
    cached = (read_json(paths.features_record) or {}).get("backbones", {})
    return {
        "features": {name: cached[name]["sha256"] if name in cached else None for name in backbones},
        "manifest": (read_json(paths.manifest_record) or {}).get("sha256"),
    }


def write(
    paths: Paths, about: dict[str, Any], table: pa.Table, groups: Sequence[np.ndarray], spaces: Sequence[Stored]
) -> dict[str, Any]:
    """Write the CSV file and, last, the JSON file; return its content.

    about: the settings, first in the JSON; table: the manifest's rows of the compared videos, by their positions.
    """
    columns = [table[name].to_pylist() for name in ("video_id", "row", "split", "artist", "path")]
    ids = columns[0]
    pairs = [np.stack([np.full(len(members), members[0]), members], axis=1) for members in groups]
    alike = similarity(spaces, np.concatenate(pairs)) if pairs else np.zeros(0, np.float32)
    edges = np.cumsum([0, *(len(members) for members in groups)])
    with replacing(paths.duplicates_table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, members in enumerate(groups):
            for member, similar in zip(members.tolist(), alike[edges[number] : edges[number + 1]], strict=True):
                writer.writerow((number, *(column[member] for column in columns), f"{similar:.4f}"))
    sizes = [len(members) for members in groups]
    written = about | {
        "compared": table.num_rows,
        "groups": len(groups),
        "videos": sum(sizes),
        "largest": max(sizes, default=0),
        "across_splits": across(groups, np.array(table["split"].to_pylist(), object)),
        "random_pairs": random_pairs(spaces, about["threshold"]),
        "examples": [
            {"group": number, "videos": len(members), "ids": [ids[member] for member in members[:SHOWN].tolist()]}
            for number, members in enumerate(groups[:EXAMPLES])
        ],
    }
    write_json(paths.duplicates, written)
    return written


def doubtful(written: dict[str, Any]) -> bool:
    """Return whether the largest group of what `write` returned has more videos than copies of one video would make."""
    return bool(written["largest"] > max(20, written["compared"] // 100))


def words(written: dict[str, Any], table: Path) -> list[str]:
    """Return what the JSON says as lines for people; `table`: the CSV file."""
    what = {"both": "audio and video", "audio": "audio", "video": "video"}[written["on"]]
    compared = f"{written['compared']} videos compared by {what}, similarity {written['threshold']:g} or more: "
    if written["groups"]:
        found = f"{written['groups']} groups of near-duplicates, {written['videos']} videos in all, the largest of "
        lines = [f"{compared}{found}{written['largest']}"]
    else:
        lines = [f"{compared}no near-duplicates"]
    random = [name for name, is_random in written["random_weights"].items() if is_random]
    if random:
        lines.append(f"{', '.join(random)} ran on RANDOM weights: videos that it finds alike may differ for people")
    splits = written["across_splits"]
    if splits["groups"]:
        trained = splits["videos"]["test_with_train"]
        lines.append(
            f"{splits['groups']} groups are in several splits; {trained} test videos have a duplicate in the train "
            "split. --write-groups FILE writes groups for the column `group` of your table, which keeps them together"
        )
    if written["groups"] > SHOWN:
        lines.append(f"the {SHOWN} largest groups; all are in {table}:")
    for example in written["examples"][:SHOWN]:
        more = ", …" if example["videos"] > len(example["ids"]) else ""
        lines.append(f"  {example['videos']}: {', '.join(map(printable, example['ids']))}{more}")
    drawn = written["random_pairs"]
    lines.append(
        f"of {drawn['pairs']} pairs drawn at random, with repetition, {drawn['alike']} are that alike; one in 1,000 "
        f"has a similarity above {drawn['quantiles']['0.999']:.2f}"
    )
    if doubtful(written):
        lines.append(
            f"THE LARGEST GROUP HAS {written['largest']} VIDEOS. Look at it in {table}: videos that show and sound "
            "nothing, or a chain of videos each a little like the next. A higher --threshold breaks chains"
        )
    return lines
