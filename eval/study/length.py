"""How long should segments be, and how many? Measure and say what came out.

Reads the variants' caches in study/length/SECONDSs_COUNT/, the manifest, and the embeddings that heads/study/length.py
wrote. Writes study/length.json.
"""

from __future__ import annotations

from pathlib import Path

from threadpoolctl import threadpool_limits

from config.cli import parser, run
from config.model import Config, read
from config.paths import Paths
from config.study import Length
from eval.study.answer import Answer, Finding, Row, write_answer
from eval.study.length_measures import EQUAL, Key, Measures, bounds, differences, readings, retrieval, rows, words
from heads.study.length import Looks, load_looks


def answer(config: Config) -> Answer:
    """Measure everything and put the answer together."""
    looks, settings = load_looks(config), config.study.length
    found, read_out = retrieval(config, looks), readings(config, looks)
    # Recall and the median are in the tables; what is tested is the mean rank, which uses all of every rank.
    ranks = {name: found[name] for name in ("mean rank", "mean rank" + EQUAL)}
    tested = differences(settings, {**ranks, **read_out})
    return Answer(
        part="length",
        title="Segment length and number",
        question="The paper looks at six segments of 3 s. Do sound and picture align better with segments of other "
        "lengths, or with more of them?",
        findings=findings(settings, found, read_out, tested, len(looks.names)),
        method=method(config, looks),
        limits=limits(config, looks, len(tested)),
        random_weights=looks.random_weights,
        seeds=config.study.seeds,
        command=f"python -m eval.study.length --config {Paths(Path(config.results)).config}",
        tables={"retrieval": rows(found), "differences": tested} | ({"reading": rows(read_out)} if read_out else {}),
    )


def common(settings: Length) -> tuple[list[Key] | None, list[Key] | None]:
    """The largest number of segments, and the most seconds, that all lengths can be compared at."""
    counts = [n for n in settings.counts if all(n <= v.count for v in settings.variants)]
    at_number = [(v.seconds, max(counts)) for v in settings.variants] if counts else None
    at_seconds = None
    for total in sorted(settings.totals):
        each = [(v.seconds, n) for v in settings.variants if (n := settings.count_for(total, v)) is not None]
        at_seconds = each if len(each) == len(settings.variants) else at_seconds
    return at_number, at_seconds


def findings(settings: Length, found: Measures, read_out: Measures, tested: list[Row], videos: int) -> list[Finding]:
    """The answer in sentences, each with how sure it is."""
    guess = next(iter(found["median rank"].values())).chance
    gallery = f"{2 * guess - 1:.0f} videos (guessing gives {guess:g})"
    said = []
    at_number, at_seconds = common(settings)
    for keys, how, more, start in (
        (
            at_seconds,
            "equal seconds",
            EQUAL,
            "Of equal seconds a video, heads learning from as many pairs at all lengths",
        ),
        (at_seconds, "equal seconds", "", "Of equal seconds a video, heads learning from all that is looked at"),
        (at_number, "equal number", "", "Of equally many segments"),
    ):
        if keys:
            values = "; ".join(f"{words(key)}: {_value(found, 'median rank' + more, key)}" for key in keys)
            verdict = _verdict(tested, "mean rank" + more, how, "find the true partner sooner", -1, keys)
            means = ", ".join(_value(found, "mean rank" + more, key) for key in keys)
            said.append(
                Finding(
                    f"{start}: {verdict}. Median rank of the true partner among {gallery}: {values}.",
                    f"mean ranks {means}; {videos} videos; brackets are 95 % bootstrap intervals over videos. "
                    f"{_tests(tested, 'mean rank' + more, how)}",
                )
            )
    if any(row["comparison"] == "more segments" for row in tested):
        said.append(_more_segments(tested))
    for name in read_out:
        if at_seconds:
            values = "; ".join(f"{words(key)}: {_value(read_out, name, key)}" for key in at_seconds)
            verdict = _verdict(tested, name, "equal seconds", "are read better", 1, at_seconds)
            said.append(
                Finding(
                    f"Read linearly at equal seconds, {name}: {verdict}; {values}.",
                    _tests(tested, name, "equal seconds"),
                )
            )
    return said


def _more_segments(tested: list[Row]) -> Finding:
    """What all segments do against the fewest, for each length, by both kinds of heads."""
    parts, sure = [], []
    for measure, learned in (
        ("mean rank", "the mean rank of the true partner changes by"),
        ("mean rank" + EQUAL, "with heads that learn from as many pairs in both cases, by"),
    ):
        here = [r for r in tested if (r["measure"], r["comparison"]) == (measure, "more segments")]
        each = ", ".join(f"{_signed(r['value'])} ({r['other']} instead of {r['one']})" for r in here)
        parts.append(f"{learned} {each}")
        ends = ", ".join(f"[{_signed(r['low'])}, {_signed(r['high'])}]" for r in here)
        sure.append(
            f"{measure}: {sum(r['shown'] for r in here)} of {len(here)} differences are shown, intervals {ends}"
        )
    return Finding(f"More segments of one length: {'; '.join(parts)}.", f"{'; '.join(sure)}.")


def _value(measures: Measures, name: str, key: Key) -> str:
    m = measures[name][key]
    ends = bounds(m.resampled)
    return f"{m.value:.3g} [{ends['low']:.3g}, {ends['high']:.3g}]"


def _verdict(tested: list[Row], measure: str, how: str, what: str, sign: int, keys: list[Key]) -> str:
    """Which lengths are better where a difference is shown at these keys, or that none is."""
    names = {words(key) for key in keys}
    here = [r for r in tested if (r["measure"], r["comparison"]) == (measure, how) and {r["one"], r["other"]} <= names]
    shown = [r for r in here if r["shown"]]
    if not shown:
        return "no difference between the lengths is shown"
    beaten: dict[str, list[str]] = {}
    for r in shown:
        better, worse = (r["other"], r["one"]) if r["value"] * sign > 0 else (r["one"], r["other"])
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
        f"paired difference {_signed(row['value'])}, 95 % interval over videos "
        f"[{_signed(row['low'])}, {_signed(row['high'])}]{seeds}; {q}"
    )


def _tests(tested: list[Row], measure: str, how: str) -> str:
    """How many comparisons were made, how many show a difference, and the strongest of them."""
    here = [r for r in tested if (r["measure"], r["comparison"]) == (measure, how)]
    strongest = min(here, key=lambda r: r["p"])
    return (
        f"Of {len(here)} such comparisons {sum(r['shown'] for r in here)} show a difference; the strongest is "
        f"{strongest['other']} less {strongest['one']}: {_difference(strongest)}."
    )


def method(config: Config, looks: Looks) -> str:
    """The paragraph of method."""
    settings = config.study.length
    lengths = ", ".join(words((v.seconds, v.count)) for v in settings.variants)
    return (
        f"{len(looks.names)} videos, drawn by their ids, were looked at again by both backbones with {lengths}. Fewer "
        "segments were drawn evenly, from a random start, among those extracted: a segment's place is random within "
        "its equal part of the video, so every second of twelve parts is what six parts would have given, but that no "
        "segment straddles two of the twelve. For every length and number a linear head (canonical correlations of "
        f"{settings.components} whitened principal components a side, directions weighted by their correlation; "
        "Hotelling 1936, Gong et al. 2014) was fitted on these segments (`equal training`: on "
        f"{settings.least} a video at all lengths) of all but one of "
        f"{settings.folds} folds, and ranked the left-out videos, each the mean of its segments, among themselves: "
        "true ranks, ties in the middle, means over both directions. A ridge regression read each backbone’s mean "
        "features in the same folds. Both clip left-out features to the range that they were fitted on. Seeds change "
        "folds and drawn segments, alike for all lengths, so that differences "
        f"are paired: {config.eval.bootstrap} bootstrap resamples of the videos, Student’s t over the seeds. The "
        "variance of a difference is multiplied by 1 + k/(k − 1) for the k folds, whose trainings share videos (Nadeau "
        "& Bengio 2003); it is called shown if its q (Benjamini–Hochberg over all rows of `differences`) is below "
        "0.05 and it has the same sign with every seed."
    )


def limits(config: Config, looks: Looks, tests: int) -> list[str]:
    """What this does not show."""
    settings = config.study.length
    longest = max(v.seconds * v.count for v in settings.variants)
    found = [
        f"A gallery has about {len(looks.names) // settings.folds} videos and a head some "
        f"{len(looks.names) * (settings.folds - 1) // settings.folds} to learn from: a small difference can be missed.",
        "Intervals of single values are for new queries with the same trainings; only those of differences allow for "
        "folds that share training videos.",
        f"{settings.components} components were chosen beforehand (`study.length.components`): with too many for the "
        "videos a head overfits, and what gives more pairs to learn from looks better.",
        f"Where a video is shorter than its segments together (up to {longest:g} s), they overlap, and drawing fewer "
        "of them is less random than extracting fewer.",
        "Both backbones average over a segment, and the probe over segments: only what changes within a segment can "
        "make its length matter.",
        f"q is over {tests} comparisons, which are not independent.",
    ]
    if config.render is not None:
        found.append(
            "Rendered videos have factors that hold throughout, but for energy and density, which change by section: "
            "one segment already says most, as it may not of real music videos."
        )
    return found


def main() -> None:
    """Command line."""
    args = parser(__doc__, "eval.study.length", "cores to use").parse_args()
    config = read(args.config)
    with threadpool_limits(args.threads):
        write_answer(Paths(Path(config.results)), answer(config))


if __name__ == "__main__":
    run(main)
