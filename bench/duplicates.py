"""Which copies of a video `pipeline.duplicates` finds, what it merges wrongly, and what it costs at full size.

    make demo
    python -m bench.duplicates FOLDER results/demo                 renders, copies, extracts, measures: 10 minutes
    python -m bench.fill CACHE                                     makes a cache of 550,000 videos, once
    python -m bench.duplicates FOLDER results/demo --cache CACHE   the same, and the whole search over CACHE

Writes FOLDER (kept and used again) and bench/results/duplicates.json. The videos are rendered and copied by
bench/duplicates_sets.py. They are compared in the space of the demo's videos, which are others, as copies are few in a
large collection. Every pair of different videos that counts as alike is a false merge. The cost of a search over
550,000 videos (bench/duplicates_cost.py) is computed from its first block rows; without --cache the figures of a whole
search stay as they were.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import measure
from bench.duplicates_cost import at_full_size, of_block_rows
from bench.duplicates_sets import BACKBONES, SETS, THREADS, Measured, Set, prepare
from config.cli import parser
from config.pipeline import Duplicates
from pipeline.duplicates.report import similarity
from pipeline.duplicates.space import WHITENING, Stored, fit
from pipeline.features import Features, open_features

ON = {"audio": ("audio",), "video": ("video",), "both": ("audio", "video")}
WHITENINGS = (0.0, 0.5, 1.0)
THRESHOLDS = [round(0.5 + 0.05 * step, 2) for step in range(10)]
HARD = ("half", "other_pictures")
"""Kinds left out of shares of all kinds: one has another video's pictures, and of one half is missing."""
VIDEOS = 550_000


def found_and_merged(measured: Measured, chosen: Set, demo: Features) -> dict[str, Any]:
    """Measure one set in the space of the demo's videos, which are others: copies that are alike, false merges.

    So the space does not know the copies, as in a large collection. `alone`: the same in the space of the set itself, a
    small collection in which a part of all videos are copies.
    """
    rows = demo.rows(valid=list(BACKBONES.values()))
    by_space = {}
    for name, fitted, fitted_rows in (("demo", demo, rows), ("alone", measured.features, measured.rows)):
        with tempfile.TemporaryDirectory() as folder:
            stored = {
                modality: Stored.write(
                    Path(folder), measured.features, fit(fitted, backbone, fitted_rows), measured.rows
                )
                for modality, backbone in BACKBONES.items()
            }
            by_space[name] = {
                on: _of_pairs([stored[modality] for modality in modalities], measured.pairs, measured.different)
                for on, modalities in ON.items()
            }
    about = {"videos": chosen.videos, "seconds": chosen.seconds, "different_pairs": len(measured.different)}
    about |= {"copies": chosen.copied, "readable": {kind: len(known) for kind, known in measured.pairs.items()}}
    easy = [kind for kind in measured.pairs if kind not in HARD]
    place = THRESHOLDS.index(Duplicates().threshold)
    alone = {
        on: {"found": sum(line["kinds"][kind]["found"][place] for kind in easy), "false": line["false"][place]}
        for on, line in by_space["alone"].items()
    }
    return about | {"on": by_space["demo"], "alone": alone}


def merged_in_demo(demo: Features, sets: dict[str, Measured]) -> dict[str, Any]:
    """Count pairs of the demo's different videos that are alike, and find what the power of the whitening changes.

    `whitening`: for each power and set, the share of copies that are more alike than any of the demo's pairs, by both.
    """
    rows = demo.rows(valid=list(BACKBONES.values()))
    different = np.stack(np.triu_indices(len(rows), 1), axis=1)
    merged: dict[str, Any] = {}
    shares: dict[str, dict[str, float]] = {}
    for power in WHITENINGS:
        spaces = [fit(demo, backbone, rows, power) for backbone in BACKBONES.values()]
        with tempfile.TemporaryDirectory() as folder:
            stored = dict(
                zip(BACKBONES, (Stored.write(Path(folder), demo, space, rows) for space in spaces), strict=True)
            )
            by_on = {
                on: similarity([stored[modality] for modality in modalities], different)
                for on, modalities in ON.items()
            }
        if power == WHITENING:
            for on, wrong in by_on.items():
                merged[on] = {"false": _at_thresholds(wrong), "largest_false": round(float(wrong.max()), 3)}
        for name, measured in sets.items():
            with tempfile.TemporaryDirectory() as folder:
                of_set = [Stored.write(Path(folder), measured.features, space, measured.rows) for space in spaces]
                easy = np.concatenate([known for kind, known in measured.pairs.items() if kind not in HARD])
                share = float((similarity(of_set, easy) > by_on["both"].max()).mean())
            shares.setdefault(f"{power:g}", {})[name] = share
    return {"videos": len(rows), "different_pairs": len(different), "on": merged, "whitening": shares}


def _of_pairs(spaces: list[Stored], pairs: dict[str, np.ndarray], different: np.ndarray) -> dict[str, Any]:
    """Count copies and pairs of different videos that are alike, at each threshold and without any false merge."""
    wrong = similarity(spaces, different)
    lines = {}
    for kind, known in pairs.items():
        alike = similarity(spaces, known)
        lines[kind] = {
            "found": _at_thresholds(alike),
            "similarity": measure.summary(alike.tolist()),
        }
    return {
        "kinds": lines,
        "false": _at_thresholds(wrong),
        "largest_false": round(float(wrong.max()), 3),
    }


def _at_thresholds(similarities: np.ndarray) -> list[int]:
    """Return how many pairs are alike at each of THRESHOLDS."""
    return [int((similarities >= np.float32(threshold)).sum()) for threshold in THRESHOLDS]


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result's bars."""
    place, lines = THRESHOLDS.index(Duplicates().threshold), []
    for name, of_set in result["sets"].items():
        both = of_set["on"]["both"]
        share = both["kinds"]["encoded"]["found"][place] / of_set["readable"]["encoded"]
        lines.append(measure.bar(f"copies encoded again, {name} videos: found by both", share, at_least=0.9))
    demo = result["demo"]
    share = demo["on"]["both"]["false"][place] / demo["different_pairs"]
    lines.append(measure.bar("false merges by both of 100,000 pairs of the demo's videos", 1e5 * share, at_most=10))
    rows = result["rows"]
    share = rows["bare"] / rows["searching"]
    lines.append(measure.bar("near-duplicates of 550,000 videos, share of the bare rate", share, at_least=0.5))
    # Each by the number of videos that it was measured with: the whole search may have been over fewer.
    lines.append(measure.bar(_peak(rows["videos"], "block rows"), rows["rss"] / 1e9, at_most=2))
    if "full" in result:
        lines.append(measure.bar(_peak(result["full"]["videos"], "all"), result["full"]["rss"] / 1e9, at_most=2))
    return lines


def _peak(videos: int, what: str) -> str:
    return f"near-duplicates of {videos:,} videos, {what}: peak RSS (GB)"


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.duplicates", config=False)
    command_line.add_argument("folder", type=Path, metavar="FOLDER", help="where the videos are kept")
    command_line.add_argument("demo", type=Path, metavar="DEMO", help="the results folder of `make demo`")
    command_line.add_argument("--cache", metavar="CACHE", help="a results folder that bench.fill made")
    arguments = command_line.parse_args()
    demo = open_features(arguments.demo)
    sets = {chosen.name: Measured.read(prepare(arguments.folder, chosen), chosen) for chosen in SETS}
    result: dict[str, Any] = {
        "thresholds": THRESHOLDS,
        "threads": THREADS,
        "sets": {chosen.name: found_and_merged(sets[chosen.name], chosen, demo) for chosen in SETS},
        "demo": merged_in_demo(demo, sets),
    }
    result["rows"] = measure.child("bench.duplicates", "rows", str(VIDEOS))
    known = measure.load("duplicates") or {}
    if arguments.cache is not None:
        result["full"] = measure.child("bench.duplicates", "cache", arguments.cache)
    elif "full" in known:
        result["full"] = known["full"]
    command = "python -m bench.duplicates FOLDER results/demo --cache CACHE"
    measure.save("duplicates", command, {**result, "bars": bars(result)})


def _answer(what: str, argument: str) -> dict[str, Any]:
    """Measure what a process of its own is asked for: `rows`, of so many videos, or `cache`, of this folder."""
    return of_block_rows(argument) if what == "rows" else at_full_size(argument)


if __name__ == "__main__":
    measure.start(main, _answer)
