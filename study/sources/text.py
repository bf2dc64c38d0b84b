"""The protocol of `sources` and the sentences of its answer; every number in them is in a table. Reads and writes
nothing.

The protocol was fixed before it was run on real clips, but for the source's share of the naive figure. What it calls
primary is the one test of the question.
"""

from __future__ import annotations

from study.answer import Finding, Row

LEVEL = 0.05
"""Significance level of the primary test, one-sided."""

TITLE = "A small collection of real videos, by whole sources"
QUESTION = (
    "One source of videos (a channel, an artist, a repository) has one look and one sound. Do audio and video go "
    "together beyond that, and how much of what is usually measured is the source?"
)
METHOD = (
    "Fixed before it was run, but for the source's share of the naive figure. Features of a video are the means over "
    "its segments. Near-duplicates are left out first: the later of two videos whose standardised features have a "
    "cosine of `study.sources.near_duplicate` or more in either modality. Folds hold out whole sources (the groups of "
    "the table of videos). The primary analysis: the backbones `heads.audio` and `heads.video`, a linear head "
    "(canonical correlation analysis on principal components with shrunk covariances, the shrinkage chosen by folds "
    "of whole sources within the training sources; study/sources/linear.py), and one statistic: the normalised rank "
    "of the positive in the gallery, in percent, the mean of both directions, of all held-out videos and of "
    "`study.sources.repeats` assignments of sources to folds. A gallery is the videos of one fold, because embeddings "
    "of different fits cannot be compared. 0 % is first, 50 % chance. Its test permutes videos' frames within their "
    "sources and repeats all fits for each permutation; a source with one video adds nothing to it. Such a "
    "permutation leaves one pair a source as it is on average, so the rank of permuted videos is only what the test "
    "compares with. The 95 % interval resamples whole sources, with the fits as they are. All else is secondary, each "
    "at its own level without correction: other backbones; videos with the tag `study.sources.tag`; one video a "
    "source, where a free permutation is a valid test; projection heads trained on the same folds, permuted without "
    "new trainings, the mean over `study.seeds`. The naive analysis is what is often done: folds that split sources "
    "and a free permutation. How much of its gain over chance is the source's identity is measured on the videos that "
    "share their source with others: each gets the frames of another video of its source (random cyclic shifts, as "
    "many as secondary permutations, all fits repeated), and what is left of the gain, divided by that of the true "
    "pairs of the same videos, is the source's. This was changed after the first run on real clips, which took "
    "permutations that keep true pairs: that is biased upwards. Power is estimated on simulated videos of the same "
    "sources, whose look and sound make half of the variance (study/sources/simulated.py), with one assignment to "
    "folds and 39 permutations."
)
LIMITS = [
    "An association within a source need not be musical: videos of one source that were made or encoded alike go "
    "together too.",
    "Sources are as the table of videos names them; sources that belong together unseen would be split by folds.",
    "The interval does not contain how fits differ, so it is somewhat too narrow.",
    "A permutation within sources needs sources with several videos; what sources with one video show is not in its p.",
    "Heads are permuted without new trainings, so that their p is conditional on the heads.",
    "Secondary analyses are not corrected for their number.",
]


def findings(tables: dict[str, list[Row]]) -> list[Finding]:
    """Return the findings, the primary one first."""
    rows = tables["analyses"]
    naive = [row for row in rows if row["analysis"] == "naive"]
    secondary = [row for row in rows if row["analysis"] != "naive" and not row["primary"]]
    duplicates = len(tables.get("near_duplicates", []))
    return [
        _primary(rows[0], duplicates),
        _naive(naive, tables["identity"][0]),
        _secondary(secondary),
        _power(tables["power"], rows[0]),
    ]


def _primary(row: Row, duplicates: int) -> Finding:
    together = row["p"] <= LEVEL
    claim = (
        f"With whole sources held out, the positive's mean rank is {row['rank_percent']:.1f} % of the gallery (chance: "
        f"50 %). That audio and video go together beyond their source is {'shown' if together else 'not shown'} "
        f"(p = {row['p']:.2g})."
    )
    sure = (
        f"95 % interval over sources {row['rank_percent_low']:.1f} to {row['rank_percent_high']:.1f} %; "
        f"{row['videos']} videos of {row['sources']} sources, {duplicates} near-duplicates left out; "
        f"{row['audio']} and {row['video']}, linear head; {row['permutations']} permutations within sources, "
        f"mean {row['permuted_percent']:.1f} %, leave {row['sources'] / row['videos']:.0%} of the pairs as they are."
    )
    return Finding(claim, sure)


def _naive(rows: list[Row], identity: Row) -> Finding:
    free, within = rows
    claim = (
        f"With folds that split sources the positive's mean rank is {free['rank_percent']:.1f} % (p = {free['p']:.2g} "
        "by a free permutation)"
    )
    share = identity["share_of_source"]
    if share is None:
        return Finding(
            claim + ".",
            "Videos that share their source with others have no gain over chance, so the source has no share of it.",
        )
    claim += (
        f". For videos that share their source with others, {share:.0%} of the gain over chance stays when each gets "
        "the frames of another video of its source: it is the source's identity."
    )
    low, high = identity["share_of_source_low"], identity["share_of_source_high"]
    interval = "no interval: there are resamples without any gain" if low is None else f"{low:.0%} to {high:.0%}"
    sure = (
        f"95 % interval of the share over sources: {interval}. {identity['videos']} videos of {identity['sources']} "
        f"sources: own frames {identity['naive_percent']:.1f} %, another's {identity['other_percent']:.1f} %. By a "
        f"permutation within sources, of all videos, p = {within['p']:.2g}."
    )
    return Finding(claim, sure)


def _secondary(rows: list[Row]) -> Finding:
    parts = [f"{label(row)} {row['rank_percent']:.1f} % (p = {row['p']:.2g})" for row in rows]
    below = [row for row in rows if row["p"] <= LEVEL]
    claim = "Secondary, with whole sources held out: " + "; ".join(parts) + "."
    sure = f"{len(below)} of {len(rows)} have p ≤ {LEVEL:g}, uncorrected; intervals and permutations in `analyses`."
    return Finding(claim, sure)


def _power(rows: list[Row], primary: Row) -> Finding:
    parts = ", ".join(f"{row['correlation']:g}: {row['power']:.0%}" for row in rows if row["correlation"] > 0)
    nothing = next(row for row in rows if row["correlation"] == 0)
    claim = (
        "Power of the primary test with these sources, by the correlation of simulated audio and video within sources: "
        f"{parts}; without any, {nothing['power']:.0%} are found."
    )
    sure = (
        f"{nothing['runs']} simulated collections each; {primary['videos_with_siblings']} of {primary['videos']} "
        "videos have another one of their source."
    )
    return Finding(claim, sure)


def label(row: Row) -> str:
    """Return what an analysis is of, in words."""
    if row["analysis"] in ("primary", "other backbones"):
        return f"{row['audio']} × {row['video']}".replace("_", " ")
    if row["analysis"] == "naive":
        return "naive" if row["permuted"] == "freely" else "naive, permuted within sources"
    return str(row["analysis"])
