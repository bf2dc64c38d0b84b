"""What docs/performance.md says of near-duplicates, from bench/results/duplicates.json. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from bench import measure
from bench.copies import KINDS
from bench.duplicates import HARD, ON, THRESHOLDS
from bench.duplicates_sets import THREADS
from config.cli import clock
from config.pipeline import Duplicates


def table(result: dict[str, Any]) -> str:
    """Return what is found of each kind of copy at the default threshold, as Markdown."""
    place = THRESHOLDS.index(Duplicates().threshold)
    columns = [(name, of_set, on) for name, of_set in result["sets"].items() for on in ON]
    rows = []
    for kind, about in KINDS.items():
        cells = []
        for _, of_set, on in columns:
            line = of_set["on"][on]["kinds"].get(kind)
            cells.append(f"{line['found'][place]} of {of_set['readable'][kind]}" if line else "")
        rows.append([about.words, *cells])
    wrong = [f"*{of_set['on'][on]['false'][place]} of {of_set['different_pairs']:,}*" for _, of_set, on in columns]
    rows.append(["*pairs of different videos: false merges*", *wrong])
    demo = result["demo"]
    merged = ", ".join(f"{demo['on'][on]['false'][place]} by {on}" for on in ON)
    words = f"Of the {demo['different_pairs']:,} pairs of the demo's {demo['videos']} videos are merged: {merged}."
    return f"{measure.markdown(['copy', *(f'{name}: {on}' for name, _, on in columns)], rows)}\n\n{words}"


def thresholds_table(result: dict[str, Any]) -> str:
    """Return found copies and the demo's false merges at each threshold, and what else was tried, as Markdown."""
    rows, demo = [], result["demo"]
    for place, threshold in enumerate(THRESHOLDS):
        cells = []
        for on in ON:
            for of_set in result["sets"].values():
                found, copies = _of_easy(of_set, on, place)
                cells.append(f"{100 * found / copies:.0f} %")
            cells.append(str(demo["on"][on]["false"][place]))
        rows.append([f"{threshold:g}", *cells])
    names = [*(f"{name}, found" for name in result["sets"]), "demo, merged"]
    header = ["threshold", *(f"{on}: {name}" for on in ON for name in names)]
    powers = "; ".join(
        f"{power}: {', '.join(f'{100 * share:.0f} % ({name})' for name, share in shares.items())}"
        for power, shares in demo["whitening"].items()
    )
    alone = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{100 * line['found'] / _of_easy(of_set, on, 0)[1]:.0f} % and {line['false']} false merges by {on}"
            for on, line in of_set["alone"].items()
        )
        for name, of_set in result["sets"].items()
    )
    return (
        f"{measure.markdown(header, rows)}\n\nFound by both above the demo's most alike pair, by the power of the "
        f"whitening: {powers}. In a collection of its own, with its copies in it, at the default threshold ({alone})."
    )


def _of_easy(of_set: dict[str, Any], on: str, place: int) -> tuple[int, int]:
    """Return how many copies of all kinds but HARD are found at a threshold, and of how many."""
    kinds = [kind for kind in of_set["on"][on]["kinds"] if kind not in HARD]
    copies_found = sum(of_set["on"][on]["kinds"][kind]["found"][place] for kind in kinds)
    return copies_found, sum(of_set["readable"][kind] for kind in kinds)


def cost_words(result: dict[str, Any]) -> str:
    """Return time and memory at full size as a sentence or two."""
    computed = result["rows"]
    videos, bare = computed["videos"], clock(computed["bare"])
    words = (
        f"Searching {videos:,} videos, {videos * (videos - 1) // 2:,} pairs, on {THREADS} cores: "
        f"{clock(computed['searching'])}, computed from {computed['measured_tiles']} of the {computed['tiles']:,} "
        f"blocks, which took {computed['measured']:.1f} s; the bare products alone {bare}, computed from "
        f"{computed['bare_tiles']} of them. Peak memory {computed['rss'] / 1e9:.2f} GB."
    )
    if "full" in result:
        full = result["full"]
        words += (
            f" The whole search, measured, over a planted cache of {full['videos']:,} videos: reading and reducing the "
            f"features of both modalities {clock(full['reading'])}, searching {clock(full['searching'])}, peak memory "
            f"{full['rss'] / 1e9:.2f} GB, files while it runs {full['files'] / 1e9:.2f} GB."
        )
    return words
