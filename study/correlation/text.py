"""The sentences of the answer about correlation, made from the tables. Reads and writes nothing."""

from __future__ import annotations

from config.model import Config
from study.answer import Finding, Row
from study.correlation.curves import HITS, MEDIAN
from study.correlation.pairing import KINDS
from study.correlation.permutation_test import LEVEL, PERMUTATIONS

SOURCES = {"rendered": "rendered videos", "simulated": "simulated features"}
METHOD = """
Simulated features: every video has {factors} latent factors for each modality, which correlate by ρ; the features are
tanh(latents · random layer) plus noise of standard deviation {noise:g}; {train} training videos, {gallery} test videos,
at most {epochs} epochs. {rendered} Each recipe is trained with each seed by the same code as everywhere, and the epoch
with the lowest validation loss is kept. Ranks are true ranks of the positive among the test videos, one item a video:
whole videos (the mean of the segments' embeddings), or one segment each. Values are medians in percent of the
gallery, over both directions, and means over seeds, with 95 % intervals by {bootstrap} resamples of the test videos'
groups (artists; a simulated video is its own) and by Student's t over seeds. A training beats chance if the mean rank
of the positives is lower than in all but {level:.0%} of {permutations} permutations; the seeds' p-values are combined
by Fisher's method. A recipe's threshold is the lowest ρ from which upwards all of the grid are significant, tested from
the top, which needs no correction (Maurer, Hothorn & Lehmacher 1995). At ρ = 0 there are {null} seeds: the number that
seem to beat chance is compared with the nominal {level:.0%} by a binomial test.
"""
RENDERED = """Rendered videos were rendered and extracted once, at correlation 1. The audio of each was then paired
with the frames of another video of the same split, one to one, by linear assignment on the known latent scores, such
that the scores correlate by ρ. {own}"""
OTHERS = """At 1 every video keeps its own frames; between 0 and 1 only as many do as ρ cannot be reached without (`own
frames` in the table `achieved`), because a mixture of own pairs and others is not what ρ says."""
MIXED = """At 1 every video keeps its own frames; in between a share of them does (`own frames` in the table
`achieved`), so that ρ is a mixture of pairs that agree in everything and others."""


def findings(tables: dict[str, list[Row]]) -> list[Finding]:
    """Write the findings: best ranks, thresholds, false alarms, kinds of link, sizes, the published formula."""
    sentences = []
    for source in SOURCES:
        if any(row["source"] == source for row in tables["curves"]):
            sentences += [_best(tables, source), _thresholds(tables, source), _null(tables, source)]
    if any(row["kind"] != "all" for row in tables["curves"]):
        sentences.append(_kinds(tables))
    if tables["needed"]:
        sentences.append(_needed(tables))
    return [*sentences, _published(tables)]


def of_videos(rows: list[Row], source: str, kind: str = "all") -> list[Row]:
    """Select the rows of one source and kind, at the level of whole videos."""
    return [row for row in rows if (row["source"], row["kind"], row["level"]) == (source, kind, "video")]


def _best(tables: dict[str, list[Row]], source: str) -> Finding:
    rows = of_videos(tables["curves"], source)
    top = max(row["correlation"] for row in rows)
    ordered = sorted((row for row in rows if row["correlation"] == top), key=lambda row: row[MEDIAN])
    first, last = ordered[0], ordered[-1]
    single = [
        row
        for row in tables["curves"]
        if row["level"] == "segment"
        and (row["source"], row["kind"], row["recipe"], row["correlation"]) == (source, "all", first["recipe"], top)
    ]
    beside = (
        f" With one segment a video instead of whole ones `{first['recipe']}` has {_median(single[0])}."
        if single
        else ""
    )
    return Finding(
        f"On {SOURCES[source]} at ρ = {top:g} the median rank of the positive is between {first[MEDIAN]:.2g} % "
        f"(`{first['recipe']}`) and {last[MEDIAN]:.2g} % (`{last['recipe']}`) of the gallery; chance is 50 %.",
        f"{first['gallery']} test and {first['train_videos']} training videos, {first['seeds']} seeds. "
        f"`{first['recipe']}` {_median(first)}, recall at 10 {first[HITS]:.2f}; `{last['recipe']}` "
        f"{_median(last)}.{beside}",
    )


def _median(row: Row) -> str:
    seeds = row[f"{MEDIAN}_seeds_low"], row[f"{MEDIAN}_seeds_high"]
    over = "" if None in seeds else f", over seeds [{max(seeds[0], 0):.2g}, {seeds[1]:.2g}]"
    return f"{row[MEDIAN]:.2g} % [{row[f'{MEDIAN}_low']:.2g}, {row[f'{MEDIAN}_high']:.2g}{over}]"


def _thresholds(tables: dict[str, list[Row]], source: str) -> Finding:
    rows = of_videos(tables["thresholds"], source)
    groups: dict[float | None, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["threshold"] is None, row["threshold"])):
        groups.setdefault(row["threshold"], []).append(f"`{row['recipe']}`")
    parts = [
        f"{', '.join(names)} {'at no correlation' if rho is None else f'from ρ = {rho:g}'}"
        for rho, names in groups.items()
    ]
    return Finding(
        f"On {SOURCES[source]} recipes beat chance: {'; '.join(parts)}.",
        f"Tested were ρ = {rows[0]['tried'].replace(' ', ', ')}: a threshold lies between its value and the one below. "
        f"Each is tested at {LEVEL:.0%}; recipes are not corrected for one another.",
    )


def _null(tables: dict[str, list[Row]], source: str) -> Finding:
    rows = of_videos(tables["null"], source)
    beyond = [f"`{row['recipe']}`" for row in rows if row["p"] < LEVEL / len(rows)]
    single = [row for row in tables["null"] if row["source"] == source and row["level"] == "segment"]
    beside = f" With one segment a video instead of whole ones: {_alarms(single)}." if single else ""
    return Finding(
        f"At ρ = 0 on {SOURCES[source]} trainings seem to beat chance in {_alarms(rows)}: "
        + (
            f"more than the nominal {LEVEL:.0%} for {', '.join(beyond)}."
            if beyond
            else f"not shown to be more than the nominal {LEVEL:.0%}."
        ),
        f"{rows[0]['trainings']} seeds for each recipe; a recipe exceeds the nominal rate if a binomial test gives "
        f"p < {LEVEL / len(rows):.2g} ({LEVEL:g} by {len(rows)} recipes). Recipes with the same seed share their data, "
        f"so the total is not a count of independent trainings.{beside}",
    )


def _alarms(rows: list[Row]) -> str:
    worst = min(rows, key=lambda row: row["p"])
    total, count = sum(row["trainings"] for row in rows), sum(row["significant"] for row in rows)
    most = f"`{worst['recipe']}` {worst['significant']} of {worst['trainings']}, p = {worst['p']:.2g}"
    return f"{count} of {total} trainings ({count / total:.1%}; the most: {most})"


def _kinds(tables: dict[str, list[Row]]) -> Finding:
    claims, sure = [], []
    for kind in dict.fromkeys(row["kind"] for row in tables["curves"] if row["kind"] != "all"):
        rows = of_videos(tables["curves"], "rendered", kind)
        top = max(row["correlation"] for row in rows)
        best = min((row for row in rows if row["correlation"] == top), key=lambda row: row[MEDIAN])
        carried = "" if best["significant"] else ", which is not shown to be better than chance"
        claims.append(f"{kind} {best[MEDIAN]:.2g} %{carried}")
        reached = next(
            row for row in tables["achieved"] if (row["kind"], row["correlation"], row["split"]) == (kind, top, "test")
        )
        how = (
            f"{reached['same genre']:.0%} of the pairs of one genre"
            if reached["linked"] is None
            else f"mean correlation of {', '.join(KINDS[kind])} {reached['linked']:.2f}, "
            f"of the other factors {reached['others']:.2f}"
        )
        sure.append(f"{kind}: `{best['recipe']}` {_median(best)}, p = {best['p']:.2g}; {how}")
    return Finding(
        f"With only one kind of link, the best recipe's median rank is: {'; '.join(claims)} of the gallery.",
        f"At the strongest pairing that the test split allows. {'. '.join(sure)}.",
    )


def _needed(tables: dict[str, list[Row]]) -> Finding:
    parts = []
    for recipe in dict.fromkeys(row["recipe"] for row in tables["needed"]):
        sizes_needed = []
        for row in sorted(
            (row for row in tables["needed"] if row["recipe"] == recipe), key=lambda row: row["correlation"]
        ):
            needs = f"more than {row['most']:,}" if row["videos"] is None else f"{row['videos']:,}"
            sizes_needed.append(f"{needs} at ρ = {row['correlation']:g}")
        parts.append(f"`{recipe}` {', '.join(sizes_needed)}")
    sizes = sorted({row["train_videos"] for row in tables["sizes"]})
    return Finding(
        f"Training videos that suffice to beat chance on simulated features: {'; '.join(parts)}.",
        f"Of the sizes {', '.join(f'{size:,}' for size in sizes)}, with {tables['sizes'][0]['gallery']} test videos: a "
        "larger test split would show weaker links. The smallest size that was tried may be more than is needed.",
    )


def _published(tables: dict[str, list[Row]]) -> Finding:
    values = [row["published_percent"] for row in tables["curves"]]
    ranks = [row[MEDIAN] for row in tables["curves"]]
    return Finding(
        f"The published formula gives {min(values):.0f} to {max(values):.0f} % of the gallery at every correlation, "
        f"while true median ranks go from {max(ranks):.0f} to {min(ranks):.2g} %.",
        f"All {len(values)} points of all curves; the formula is no rank (eval/published.py).",
    )


def method(config: Config, left_out: str | None) -> str:
    """Write the paragraph of method."""
    settings = config.study.correlation
    rendered = f"Rendered videos were left out: {left_out}."
    if left_out is None:
        rendered = RENDERED.format(own=MIXED if settings.rendered.own_frames else OTHERS)
    paragraph = METHOD.format(
        factors=settings.simulated.factors,
        noise=settings.simulated.noise,
        train=f"{settings.simulated.videos:,}",
        gallery=f"{settings.simulated.gallery:,}",
        epochs=settings.simulated.max_epochs,
        rendered=rendered,
        bootstrap=config.eval.bootstrap,
        level=LEVEL,
        permutations=PERMUTATIONS,
        null=settings.null_seeds,
    )
    return " ".join(paragraph.split())


def _own_frames(tables: dict[str, list[Row]]) -> str:
    """Say which share of the test videos keeps its own frames at each correlation."""
    rows = [row for row in tables["achieved"] if (row["kind"], row["split"]) == ("all", "test")]
    shares = [f"{row['own frames']:.0%} at ρ = {row['correlation']:g}" for row in rows if "own frames" in row]
    if not shares:
        return "The share of videos that keep their own frames was not measured: the cells are of an earlier version."
    return f"Of the test videos, {', '.join(shares)} keep their own frames, which agree with the audio in every factor."


def limits(config: Config, left_out: str | None, tables: dict[str, list[Row]]) -> list[str]:
    """List what the answer does not show."""
    settings = config.study.correlation
    items = [
        "Thresholds and needed sizes are those of these numbers of videos: more training videos, or more test videos "
        "to tell a weak link from none, find lower correlations.",
        "Simulated factors are independent, and their features have one segment a video: rows of the two sources are "
        "not to be compared point by point.",
        f"{len(config.study.seeds)} seeds: intervals over seeds are wide, and for simulated features, whose videos are "
        "drawn anew for every seed, the bootstrap's intervals are wider than need be.",
    ]
    if left_out is None:
        items += [
            "With audio and frames of different files, cuts fall on the beat of another song: tempo and liveliness can "
            "agree, the phase of the beat cannot. A segment's frozen features hold no phase across files anyway.",
            f"Correlations are means over a split's videos. {_own_frames(tables)} `achieved` has them by factor.",
            "Kinds of link leave the other factors nearly, not wholly, unlinked: genres tie the factors to each other.",
            "Frames are rendered from the factors: what recipes find here, real videos need not have.",
        ]
    if settings.null_seeds < 20:
        items.append(
            f"With {settings.null_seeds} seeds at ρ = 0 a rate of false alarms somewhat above the nominal is not seen."
        )
    return items
