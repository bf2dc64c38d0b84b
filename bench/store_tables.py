"""Tables of the bench of the store, from its result. Reads and writes nothing."""

from __future__ import annotations

from typing import Any


def load_table(result: dict[str, Any]) -> str:
    """Loading the whole array."""
    load, size = result["load"], result["bytes"]
    lines = ["| | s | GB/s | of raw reading |", "|---|---|---|---|"]
    for name, seconds in load.items():
        lines.append(f"| {name} | {seconds:.2f} | {size / seconds / 1e9:.2f} | {load['raw'] / seconds:.2f} |")
    return "\n".join(lines)


def rows_table(result: dict[str, Any]) -> str:
    """Gathering random rows."""
    gather = result["gather"]
    lines = ["| | from disk, ms | times memmap | from the page cache, ms | times memmap |", "|---|---|---|---|---|"]
    for name, each in gather.items():
        cells = [f"{1000 * each[w]:.1f} | {each[w] / gather['memmap'][w]:.2f}" for w in ("disk", "cached")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chunk_table(result: dict[str, Any]) -> str:
    """Chunk sizes."""
    lines = [
        "| rows a chunk | KB | load, ms | with Zarr | 1,000 rows from disk, ms | cached | with Zarr |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in result["chunks"]:
        seconds = [each["load"], each["load_zarr"], each["gather"]["disk"], each["gather"]["cached"]]
        cells = " | ".join(f"{1000 * s:.0f}" for s in (*seconds, each["gather_zarr"]))
        lines.append(f"| {each['rows']} | {each['kb']:.0f} | {cells} |")
    return "\n".join(lines)


def codec_table(result: dict[str, Any]) -> str:
    """Codecs, on planted and on real features."""
    lines = [
        "| features | codec | bytes, of the numbers' | write, MB/s | read, MB/s | with zarrs |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in result["codecs"].items():
        for each in found["codecs"]:
            speeds = [found["bytes"] / each[k] / 1e6 if k in each else None for k in ("write", "load", "load_zarrs")]
            cells = " | ".join("" if s is None else f"{s:.0f}" for s in speeds)
            lines.append(f"| {kind} | {each['codec']} | {each['size']:.2f} | {cells} |")
    return "\n".join(lines)


def growth_words(result: dict[str, Any]) -> str:
    """The scaling curve, opening and checking, in words."""
    curve, checked = result["curve"], result["verify"]
    points = ", ".join(f"{n:,}: {s:.2f} s" for n, s in zip(curve["videos"], curve["seconds"], strict=True))
    return (
        f"Loading by number of videos: {points}; exponent {curve['exponent']:.2f}. Opening the cache of "
        f"{result['videos']:,} videos with all its records takes {1000 * result['open']:.0f} ms. Checking "
        f"{checked['shards']} shards ({checked['bytes'] / 1e9:.1f} GB) takes {checked['verify']:.1f} s from disk, "
        f"where reading alone takes {checked['raw']:.1f} s; from the page cache {checked['verify_warm']:.1f} s and "
        f"{checked['raw_warm']:.1f} s."
    )
