"""The words of bench/README.md on Slurm. Reads and writes nothing."""

from __future__ import annotations

from typing import Any


def table(result: dict[str, Any]) -> str:
    """What `bench.slurm` found: a line about the queue, a sentence about the kills."""
    s, e = result["submitted"], result["executed"]
    states = ", ".join(f"{n} {state.lower()}" for state, n in sorted(e["states"].items()))
    kills = ", ".join(f"{n} by {way}" for way, n in sorted(e["kills"].items()))
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
    return (
        f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|\n| {' | '.join(cells.values())} |\n\n"
        f"{e['jobs']} jobs executed in {e['seconds']:.0f} s, killed {kills}: {states}. Of {e['videos']} videos "
        f"{e['lost']} lost, {e['different']} with other features than without Slurm, {e['torn']} shards torn."
    )
