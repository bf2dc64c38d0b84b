"""The tables of bench.extract as Markdown. Reads and writes nothing."""

from __future__ import annotations

from typing import Any


def extract_table(result: dict[str, Any]) -> str:
    """The Markdown table."""
    lines = [
        "| backbone, cores | core s a video | decode alone | network alone | of both alone | of the slower, wall "
        "| segments/s a core | of float32 peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        lines.append(
            f"| {r['backbone']}, {r['cores']} | {r['core_seconds_a_video']['median']:.2f} "
            f"| {r['decode_cpu_a_video']:.2f} | {r['forward_cpu_a_video']:.2f} "
            f"| {r['of_cpu']['median']:.2f} | {r['of_slower']['median']:.2f} "
            f"| {r['segments_a_second_a_core']:.1f} | {r['of_peak']:.0%} |"
        )
    return "\n".join(lines)


def baseline_table(result: dict[str, Any]) -> str:
    """The baseline's Markdown table."""
    b = result["baseline"]
    ours = next(r for r in result["rows"] if r["backbone"] == "r2plus1d" and r["cores"] == "1")["core_seconds_a_video"]
    return "\n".join(
        [
            "| R(2+1)D, one core | s a video | times as slow |",
            "|---|---|---|",
            f"| this pipeline | {ours['median']:.1f} | 1 |",
            f"| whole file decoded, same six clips | {b['same_segments']['seconds']:.0f} "
            f"| {b['times_as_slow_same_segments']:.1f} |",
            f"| whole file decoded, every clip | {b['every_clip']['seconds']:.0f} "
            f"| {b['times_as_slow_every_clip']:.1f} |",
        ]
    )
