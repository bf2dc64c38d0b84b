"""The answer about length and number of segments in words, each sentence from the tables' numbers. Opens no file."""

from __future__ import annotations

from config.model import Config
from config.study.length import Length
from study.answer import Finding, Row
from study.length.tables import EQUAL, Key, Measures, bounds, words
from study.length.train import Variants


def common(settings: Length) -> tuple[list[Key] | None, list[Key] | None]:
    """Return the largest number of segments, and the most seconds, at which all lengths can be compared."""
    counts = [count for count in settings.counts if all(count <= variant.count for variant in settings.lengths)]
    at_number = [Key.of(variant, max(counts)) for variant in settings.lengths] if counts else None
    at_seconds = None
    for total in sorted(settings.totals):
        with_counts = [(variant, settings.count_for(total, variant)) for variant in settings.lengths]
        comparable = [Key.of(variant, count) for variant, count in with_counts if count is not None]
        at_seconds = comparable if len(comparable) == len(settings.lengths) else at_seconds
    return at_number, at_seconds


def findings(settings: Length, ranked: Measures, probed: Measures, tested: list[Row], videos: int) -> list[Finding]:
    """Write the findings, each with how sure it is."""
    by_chance = next(iter(ranked["median rank"].values())).chance
    gallery = f"{2 * by_chance - 1:.0f} videos (chance: {by_chance:g})"
    sentences = []
    at_number, at_seconds = common(settings)
    for keys, how, more, start in (
        (
            at_seconds,
            "equal seconds",
            EQUAL,
            "At equal seconds a video, with heads trained on equally many pairs at all lengths",
        ),
        (at_seconds, "equal seconds", "", "At equal seconds a video, with heads trained on all of these segments"),
        (at_number, "equal number", "", "With equally many segments"),
    ):
        if keys and len(keys) > 1:  # a single length is compared with itself only, by where its segments start
            values = "; ".join(f"{words(key)}: {_value(ranked, 'median rank' + more, key)}" for key in keys)
            verdict = _verdict(tested, "mean rank" + more, how, "rank the positive better", -1, keys)
            means = ", ".join(_value(ranked, "mean rank" + more, key) for key in keys)
            sentences.append(
                Finding(
                    f"{start}: {verdict}. Median rank of the positive among {gallery}: {values}.",
                    f"mean ranks {means}; {videos} videos; brackets are 95 % bootstrap intervals over groups. "
                    f"{_tests(tested, 'mean rank' + more, how)}",
                )
            )
    if any(row["comparison"] == "more segments" for row in tested):
        sentences.append(_more_segments(tested))
    sentences += _other_starts(tested)
    for name in probed:
        if at_seconds and len(at_seconds) > 1:
            values = "; ".join(f"{words(key)}: {_value(probed, name, key)}" for key in at_seconds)
            verdict = _verdict(tested, name, "equal seconds", "are predicted better", 1, at_seconds)
            sentences.append(
                Finding(
                    f"Linear probe at equal seconds, {name}: {verdict}; {values}.",
                    _tests(tested, name, "equal seconds"),
                )
            )
    return sentences


def _more_segments(tested: list[Row]) -> Finding:
    """Compare all segments with the fewest, for each length, by both kinds of heads."""
    parts, sure = [], []
    for measure, learned in (
        ("mean rank", "the mean rank of the positive changes by"),
        ("mean rank" + EQUAL, "with heads trained on equally many pairs in both cases, by"),
    ):
        compared = [row for row in tested if (row["measure"], row["comparison"]) == (measure, "more segments")]
        changes = ", ".join(f"{_signed(row['value'])} ({row['other']} instead of {row['one']})" for row in compared)
        parts.append(f"{learned} {changes}")
        ends = ", ".join(f"[{_signed(row['low'])}, {_signed(row['high'])}]" for row in compared)
        shown = sum(row["shown"] for row in compared)
        sure.append(f"{measure}: {shown} of {len(compared)} differences are shown, intervals {ends}")
    return Finding(f"More segments of one length: {'; '.join(parts)}.", f"{'; '.join(sure)}.")


def _other_starts(tested: list[Row]) -> list[Finding]:
    """Compare segments of one length that start elsewhere, by the largest number of them: ranks, then probes."""
    compared = [row for row in tested if row["comparison"] == "starts"]
    if not compared:
        return []
    pairs = {row["measure"]: row for row in compared}  # the last, largest number
    changes = "; ".join(
        f"{measure}, {_signed(row['value'])} [{_signed(row['low'])}, {_signed(row['high'])}]"
        for measure, row in pairs.items()
    )
    shown = [row for row in compared if row["shown"]]
    one = next(iter(pairs.values()))
    verdict = f"{len(shown)} of {len(compared)} differences are shown" if shown else "no difference is shown"
    return [
        Finding(
            f"Where segments start: {verdict}. Changes with {one['other']} instead of {one['one']}: {changes}.",
            "brackets are 95 % intervals over groups; all numbers of segments are in `differences`, as `starts`.",
        )
    ]


def _value(measures: Measures, name: str, key: Key) -> str:
    measured = measures[name][key]
    ends = bounds(measured)
    return f"{measured.value:.3g} [{ends['low']:.3g}, {ends['high']:.3g}]"


def _verdict(tested: list[Row], measure: str, how: str, what: str, sign: int, keys: list[Key]) -> str:
    """Say which lengths are better where a difference is shown at these keys, or that none is."""
    names = {words(key) for key in keys}
    compared = [row for row in tested if (row["measure"], row["comparison"]) == (measure, how)]
    shown = [row for row in compared if row["shown"] and {row["one"], row["other"]} <= names]
    if not shown:
        return "no difference between the lengths is shown"
    beaten: dict[str, list[str]] = {}
    for row in shown:
        better, worse = (row["other"], row["one"]) if row["value"] * sign > 0 else (row["one"], row["other"])
        beaten.setdefault(better, []).append(worse)
    return "; ".join(f"{better} {what} than {' and '.join(worse)}" for better, worse in beaten.items())


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _difference(row: Row) -> str:
    seeds = (
        "" if row["seeds_low"] is None else f", over seeds [{_signed(row['seeds_low'])}, {_signed(row['seeds_high'])}]"
    )
    q = f"q = {row['q']:.2g}" if row["q"] >= 0.001 else "q < 0.001"
    return (
        f"paired difference {_signed(row['value'])}, 95 % interval over groups "
        f"[{_signed(row['low'])}, {_signed(row['high'])}]{seeds}; {q}"
    )


def _tests(tested: list[Row], measure: str, how: str) -> str:
    """Say how many comparisons were made, how many show a difference, and which is the strongest."""
    compared = [row for row in tested if (row["measure"], row["comparison"]) == (measure, how)]
    strongest = min(compared, key=lambda row: row["p"])
    return (
        f"Of {len(compared)} such comparisons {sum(row['shown'] for row in compared)} show a difference; the strongest "
        f"is {strongest['other']} less {strongest['one']}: {_difference(strongest)}."
    )


def method(config: Config, variants: Variants) -> str:
    """Write the paragraph of method."""
    settings = config.study.length
    lengths = ", ".join(words(Key.of(variant, variant.count)) for variant in settings.variants)
    return (
        f"{len(variants.names)} videos, drawn by their ids, were extracted again by both backbones with {lengths}. "
        "Fewer segments were drawn evenly, from a random start, among those extracted. A segment lies at random within "
        "its equal part of the video, so every second of twelve parts is what six parts would have given, except that "
        "no segment straddles two of the twelve. For every length and number a linear head (canonical correlations of "
        f"{settings.components} whitened principal components of each modality, directions weighted by their "
        "correlation; Hotelling 1936, Gong et al. 2014) was fitted on these segments (`equal training`: on "
        f"{settings.least} of each video at all lengths) of all but one of {settings.folds} folds, which keep the "
        "videos of a group (an artist) together. It ranked the left-out videos, each the mean of its segments, among "
        "themselves: true ranks, ties in the middle, means over both directions. A ridge regression probed each "
        "backbone’s mean features in the same folds. Both clip left-out features to the range that they were fitted "
        "on. Seeds change folds and drawn segments, alike for all lengths, so that differences are paired: "
        f"{config.eval.bootstrap} bootstrap resamples of the groups, Student’s t over the seeds. The variance of a "
        "difference is multiplied by 1 + k/(k − 1) for the k folds, whose trainings share videos (Nadeau & Bengio "
        "2003). A difference is called shown if its q (Benjamini–Hochberg over all rows of `differences`) is below "
        "0.05 and it has the same sign with every seed."
    )


def limits(config: Config, variants: Variants, tests: int) -> list[str]:
    """List what the answer does not show."""
    settings = config.study.length
    longest = max(variant.seconds * variant.count for variant in settings.variants)
    items = [
        f"A gallery has about {len(variants.names) // settings.folds} videos and a head about "
        f"{len(variants.names) * (settings.folds - 1) // settings.folds} to learn from: a small difference can be "
        "missed.",
        "Intervals of single values hold for new queries with the same trainings; only those of differences allow for "
        "folds that share training videos.",
        f"The {settings.components} components were chosen beforehand (`study.length.components`): with too many for "
        "the number of videos a head overfits, and settings with more training pairs look better.",
        f"Where a video is shorter than its segments together (up to {longest:g} s), they overlap, and drawing fewer "
        "of them is less random than extracting fewer.",
        "Both backbones average over a segment, and the probe over segments: only what changes within a segment can "
        "make its length matter.",
        f"q is over {tests} comparisons, which are not independent.",
    ]
    if config.render is not None:
        items.append(
            "The factors of rendered videos are constant throughout, except energy and density, which change by "
            "section: one segment already shows most of them, which may not be so in real music videos."
        )
    return items
