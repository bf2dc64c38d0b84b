"""The results of the fault, kill and memory campaigns as Markdown. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

STREAMLESS = ("no_video_stream", "no_audio_stream")


def faults(result: dict[str, Any]) -> str:
    """The counts of bench.faults, and a table backbone × outcome."""
    files = result["damaged_files"] + result["hostile_files"] + result["good_neighbours"]
    words = (
        f"{result['damaged_files']:,} damaged and {result['hostile_files']} hostile files among "
        f"{result['good_neighbours']} good neighbours: {result['jobs']} jobs, {len(result['problems'])} problems, the "
        f"longest standstill {result['longest_standstill_seconds']} s (the deadline is "
        f"{result['deadline_seconds']:g} s), {result['network_calls']} network calls. Outcomes of all {files:,} files:"
    )
    counts = {name: _streams_together(found) for name, found in result["outcomes"].items()}
    reasons = sorted(
        {r for found in counts.values() for r in found}, key=lambda r: -sum(c.get(r, 0) for c in counts.values())
    )
    lines = [f"| | {' | '.join(reasons)} |", "|---|" + "---|" * len(reasons)]
    for name, found in counts.items():
        lines.append(f"| {name} | {' | '.join(str(found.get(r, '')) for r in reasons)} |")
    return "\n".join([words, "", *lines])


def _streams_together(found: dict[str, int]) -> dict[str, int]:
    """Counts with both missing streams as one reason."""
    kept = {reason: count for reason, count in found.items() if reason not in STREAMLESS}
    without = sum(found.get(reason, 0) for reason in STREAMLESS)
    return kept | ({"no stream": without} if without else {})


def kills(result: dict[str, Any]) -> str:
    """What bench.kills found, in a sentence."""
    workflows, extractions = result["by_moment"].get("workflow", 0), result["extractions_compared"]
    jobs = result["kills"] - workflows
    return (
        f"{result['kills']} kills ({jobs} of single jobs, spread over their start, their decoding and their last "
        f"write, and {workflows} of whole Snakemake runs) over {extractions} extractions of a collection that grows "
        f"in between: {result['torn']} torn shards after any kill, {result['lost']} videos lost, "
        f"{result['different']} records or features different from an undisturbed run."
    )


def memory(result: dict[str, Any]) -> str:
    """The slopes and peaks of bench.memory as a table."""
    lines = ["| job | grows by, MiB a 1,000 videos | peak, MiB | largest decoder, MiB |", "|---|---|---|---|"]
    for name, stage in result["stages"].items():
        lines.append(
            f"| {name} | {stage['job_slope_mib_per_1000_videos']:.2f} | {stage['job_peak_mib']:.0f} "
            f"| {stage['worker_peak_mib']:.0f} |"
        )
    return "\n".join(lines)
