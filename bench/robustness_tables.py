"""The results of the fault, kill and memory campaigns as Markdown. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

FAULTS = {
    "F5": "clock starts again",
    "F6": "hole in the clock",
    "F7": "below zero, wrap",
    "F8": "wrong duration",
    "F9": "decoding stamps",
    "F18": "still image",
}
STREAMLESS = ("no_video_stream", "no_audio_stream")


def faults(result: dict[str, Any]) -> str:
    """Return the counts of bench.faults, and a table backbone × outcome."""
    files = result["damaged_files"] + result["hostile_files"] + result["good_neighbours"]
    words = (
        f"{result['damaged_files']:,} damaged and {result['hostile_files']} hostile files among "
        f"{result['good_neighbours']} good neighbours: {result['jobs']} jobs, {len(result['problems'])} problems, the "
        f"longest standstill {result['longest_standstill_seconds']} s (the deadline is "
        f"{result['deadline_seconds']:g} s), {result['network_calls']} network calls. Outcomes of all {files:,} files:"
    )
    counts = {name: _streams_together(outcomes) for name, outcomes in result["outcomes"].items()}
    reasons = sorted(
        {reason for outcomes in counts.values() for reason in outcomes},
        key=lambda reason: -sum(counted.get(reason, 0) for counted in counts.values()),
    )
    lines = [f"| | {' | '.join(reasons)} |", "|---|" + "---|" * len(reasons)]
    for name, outcomes in counts.items():
        lines.append(f"| {name} | {' | '.join(str(outcomes.get(reason, '')) for reason in reasons)} |")
    return "\n".join([words, "", *lines])


def _streams_together(outcomes: dict[str, int]) -> dict[str, int]:
    """Return the counts with both missing streams as one reason."""
    others = {reason: count for reason, count in outcomes.items() if reason not in STREAMLESS}
    without = sum(outcomes.get(reason, 0) for reason in STREAMLESS)
    return others | ({"no stream": without} if without else {})


def kills(result: dict[str, Any]) -> str:
    """Return what bench.kills found, in a sentence."""
    workflows, extractions = result["by_moment"].get("workflow", 0), result["extractions_compared"]
    jobs = result["kills"] - workflows
    return (
        f"{result['kills']} kills ({jobs} of single jobs, spread over their start, their decoding and their last "
        f"write, and {workflows} of whole Snakemake runs) over {extractions} extractions of a collection that grows "
        f"in between: {result['torn']} torn shards after any kill, {result['lost']} videos lost, "
        f"{result['different']} records or features different from an undisturbed run."
    )


def remote(result: dict[str, Any]) -> str:
    """Return what bench.remote found, a table of outcomes, and how fast a file is fetched, in words."""
    reasons = list(dict.fromkeys(reason for counts in result["outcomes"].values() for reason in counts))
    rates = result["throughput"]["mb_a_second"]
    lines = [
        f"{result['faults']} faults of {result['kinds']} kinds in {result['jobs']} jobs on {result['videos']} videos: "
        f"{result['dead_jobs']} dead jobs, {result['wrong_features']} wrong features, {result['not_as_expected']} "
        f"videos with another outcome than their fault demands. Outcomes:",
        "",
        f"| | {' | '.join(reasons)} |",
        "|---" * (len(reasons) + 1) + "|",
    ]
    for part, counts in result["outcomes"].items():
        lines.append(f"| {part} | {' | '.join(str(counts.get(reason, '')) for reason in reasons)} |")
    lines += [
        "",
        f"A file of {result['throughput']['file_mb']:.0f} MB from nginx on the same machine comes at "
        f"{rates['fetched']} MB a second, {rates['fetched, digest checked']} with its digest checked, and "
        f"{rates['bare']} by a bare download with the same library (medians of {result['throughput']['repeats']}).",
    ]
    return "\n".join(lines)


def timelines(result: dict[str, Any]) -> str:
    """Return the counts of bench.timelines, a table container × fault with the outcomes, and what the probe costs."""
    files = result["files"]
    faults = sorted({file["fault"] for file in files}, key=lambda fault: int(fault[1:]))
    lines = [f"| | {' | '.join(FAULTS[fault] for fault in faults)} |", "|---|" + "---|" * len(faults)]
    for container in sorted({file["container"] for file in files}):
        cells = []
        for fault in faults:
            reached = [file["outcome"] for file in files if (file["container"], file["fault"]) == (container, fault)]
            counts = {
                outcome: reached.count(outcome)
                for outcome in sorted(set(reached), key=lambda outcome: (outcome != "right", outcome))
            }
            cells.append(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        lines.append(f"| {container} | {' | '.join(cells)} |")
    right, wrong = (sum(file["outcome"] == outcome for file in files) for outcome in ("right", "WRONG"))
    worst = max(file.get("worst", 0.0) for file in files if file["outcome"] == "right")
    unused = [file for file in files if file["outcome"] == "right" and file["seconds"] < 0.9 * file["content"]]
    words = (
        f"{len(files)} files: {right} right, {wrong} wrong, {len(files) - right - wrong} with a reason. Audio and "
        f"video are at most {worst:.2f} s apart. Of {len(unused)} a part is not used"
    )
    words += (
        "".join(
            f" ({file['words']}, {file['container']}: {file['seconds']:.0f} of {file['content']:.0f} s)"
            for file in unused
        )
        + "."
    )
    if result["healthy"]:
        costs = (
            f"{name} {costs['probe_ms']:.1f} ({costs['open_ms']:.1f})" for name, costs in result["healthy"].items()
        )
        words += f" Probing files that are right takes, in ms (opening alone): {', '.join(costs)}."
    return "\n".join([words, "", *lines])


def memory(result: dict[str, Any]) -> str:
    """Return the slopes and peaks of bench.memory as a table."""
    lines = ["| job | grows by, MiB a 1,000 videos | peak, MiB | largest decoder, MiB |", "|---|---|---|---|"]
    for name, stage in result["stages"].items():
        lines.append(
            f"| {name} | {stage['job_slope_mib_per_1000_videos']:.2f} | {stage['job_peak_mib']:.0f} "
            f"| {stage['worker_peak_mib']:.0f} |"
        )
    return "\n".join(lines)
