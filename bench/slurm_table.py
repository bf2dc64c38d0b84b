"""The words of bench/README.md on Slurm. Reads and writes nothing."""

from __future__ import annotations

from typing import Any


def table(result: dict[str, Any]) -> str:
    """What `bench.slurm` found: a line about the queue, a sentence about the kills."""
    s = result["submitted"]
    cells = {
        "jobs": f"{s['jobs']:,}",
        "first submitted": f"{s['first_seconds']:.1f} s",
        "last": f"{s['last_seconds']:.1f} s",
        "a second": f"{s['a_second']:.1f}",
        "plain `sbatch` a second": f"{s['plain_a_second']:.1f}",
        "Snakemake's peak": f"{s['snakemake_mb']} MB",
        "one status poll": f"{1000 * s['poll_seconds']['median']:.0f} ms",
        "cancelling all": f"{s['cancelling_seconds']:.1f} s",
    }
    line = f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|\n| {' | '.join(cells.values())} |\n\n"
    return line + (executed(result["executed"]) if result["executed"] else "The kills have not been measured yet.")


def executed(found: dict[str, Any]) -> str:
    """The sentence about the kills."""
    states = ", ".join(f"{n} {state.lower()}" for state, n in sorted(found["states"].items()))
    kills = ", ".join(f"{n} by {way}" for way, n in sorted(found["kills"].items()))
    return (
        f"{found['jobs']} jobs executed in {found['seconds']:.0f} s, killed {kills}: {states}. Of {found['videos']} "
        f"videos {found['lost']} lost, {found['different']} with other features than without Slurm, {found['torn']} "
        "shards torn."
    )
