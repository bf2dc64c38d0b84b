"""The sentences of the answer `relations`; every number in them is in a table. Reads and writes nothing."""

from __future__ import annotations

import numpy as np

from config.model import Config
from study.answer import Finding, Row
from study.relations.associations import smallest_p

LEVEL = 0.05
"""Significance level of the tests of feature spaces."""

TITLE = "Which relations between audio and video exist"
QUESTION = (
    "Which properties of the audio go together with which of the video, how much of that is due to the genre, which "
    "properties can be predicted from the backbones' features and the heads' embeddings, and how alike are the "
    "feature spaces?"
)
METHOD = (
    "Each segment has ten audio descriptors, by essentia (Bogdanov et al. 2013), and seven video descriptors; those "
    "of a video are the means over its segments. Pairs are measured by Spearman's rank correlation; directions (key "
    "on the circle of fifths, hue) by the canonical correlation of Jupp and Mardia (1980), which has no sign. Videos "
    "of one artist are alike, so tests flip the signs of whole artists' contributions (Hemerik, Goeman and Finos "
    "2020); only if no artist has two videos, p-values are those of the t distribution. The p-values of all pairs are "
    "corrected together (Benjamini and Hochberg 1995). Confounding by genre: the same with the residuals of the ranks "
    "within genres. Synchrony of beats and cuts is the largest correlation of note onsets and changes between frames "
    "within 0.2 s, compared with the same audio and other videos' frames; it uses both modalities, so it is no column "
    "of the matrix. Descriptors are predicted from mean features by ridge regression (its strength by leave-one-out, "
    "held-out features clipped to the range of the others) and judged by R² on held-out artists, for directions the "
    "mean of sine and cosine, beside R² of the descriptors of other artists' videos; from the heads' embeddings of "
    "test videos only, because the heads were trained on the others. Intervals resample whole artists (of heads the "
    "mean over the seeds; those over the seeds stand beside them). Feature "
    "spaces, all standardised: linear CKA (Kornblith et al. 2019) of the training segments; canonical correlations "
    "fitted on the training split, the ridge chosen on the validation split, measured on the test split; shares of "
    "mutual nearest neighbours (Huh et al. 2024) of mean features, one video an artist. Chance is given by random "
    "signs of whole artists' contributions for covariances, and by random pairings for neighbours, on at most "
    "`study.relations.videos` videos; p is (1 + b) / (1 + n), where b of n draws are at least as alike. Covariances "
    "and descriptors are computed over the whole cache with dask, a shard a task."
)
LIMITS = [
    "Tests assume that artists are independent; covers, shared band members and labels are not considered.",
    "Descriptors are estimates: from three seconds the tempo is often doubled or halved, and the key is uncertain.",
    "Genre is one word a video; what differs within a genre by subgenre or period is still confounded.",
    "Correlations do not show causes, and rank correlations only see monotonic relations.",
    "CKA and canonical correlations count segments, several of each video; their baselines keep that and the splits.",
]


def findings(tables: dict[str, list[Row]], config: Config) -> list[Finding]:
    """Return the findings, the most important first."""
    alpha = config.study.relations.false_discoveries
    first = [_pairs(tables["descriptors"], alpha)]
    if "planted" in tables:
        first.append(_planted(tables["planted"], tables["descriptors"], alpha))
    return [*first, _shuffled(tables["shuffled"]), _synchrony(tables["synchrony"][0]), _read(tables), _spaces(tables)]


def _pairs(rows: list[Row], alpha: float) -> Finding:
    significant = [row for row in rows if row["significant"]]
    within = [row for row in significant if row["genre_significant"]]
    best = sorted(within, key=lambda row: -abs(row["genre_strength"]))[:3]
    claim = f"{len(significant)} of {len(rows)} pairs of descriptors go together, {len(within)} also within genres"
    if best:
        claim += "; the strongest there: " + ", ".join(
            f"{_pair(row)} ({row['genre_strength']:.2f}, a direction)"
            if row["direction"]
            else f"{_pair(row)} ({row['genre_strength']:+.2f})"
            for row in best
        )
    sure = f"{rows[0]['videos']} videos of {rows[0]['artists']} artists, who are tested as a whole; of the significant "
    sure += f"pairs at most {alpha:.0%} are false on average."
    return Finding(claim + ".", sure)


def _planted(planted: list[Row], rows: list[Row], alpha: float) -> Finding:
    lost = [_pair(row) for row in planted if not row["significant"]]
    left = [row for row in rows if row["left_q"] <= alpha]
    rho = planted[0]["correlation"]
    claim = f"Of {len(planted)} relations that the renderer planted (correlation {rho:g}), "
    claim += f"{len(planted) - len(lost)} are found"
    claim += f", not {', '.join(lost)}." if lost and rho > 0 else "."
    claim += f" With all planted factors held constant, {len(left)} of {len(rows)} pairs "
    claim += f"{'is' if len(left) == 1 else 'are'} left" + (", where none should be." if left else ".")
    sure = f"At a false discovery rate of {alpha:.0%}; strengths in the table `planted`. "
    return Finding(claim, sure + "Factors are held constant by deciles and products, which cannot follow finer curves.")


def _shuffled(rows: list[Row]) -> Finding:
    tests = [row for row in rows if row["nothing_to_find"]]
    worst = max(tests, key=lambda row: row["share"])
    claim = (
        "If video descriptors are shuffled between artists, so that there is nothing to find, "
        f"{worst['seeds_with_any']} of {worst['seeds']} shuffles or fewer have any significant pair"
        + (", no more than the nominal rate allows." if all(row["kept"] for row in tests) else ": too many.")
    )
    interval = f"95 % interval of the share {worst['low']:.2f} to {worst['high']:.2f}, nominal {worst['nominal']:g}"
    below = ", ".join(f"{row['p_below_nominal']:.3f}" for row in tests)
    return Finding(claim, f"{interval}; single p-values below it: {below} of all.")


def _synchrony(row: Row) -> Finding:
    if row["low"] > 0:
        claim = "Frames change with the beats more than by chance"
    elif row["high"] < 0:
        claim = "Frames change with the beats less than by chance"
    else:
        claim = "That frames change with the beats more than by chance is not shown"
    claim += f": synchrony {row['synchrony']:.3f}, {row['chance']:.3f} with other videos' frames."
    sure = f"Difference {row['gain']:+.3f}, 95 % interval over artists {row['low']:+.3f} to {row['high']:+.3f}."
    return Finding(claim, sure)


def _read(tables: dict[str, list[Row]]) -> Finding:
    spaces: dict[str, list[Row]] = {}
    for row in tables["readable"]:
        spaces.setdefault(row["space"], []).append(row)
    parts = []
    for space, rows in spaces.items():
        clear = [row for row in rows if predicts(row)]
        best = max(rows, key=lambda row: row["r2"])
        part = f"{space} {len(clear)} of {len(rows)}"
        parts.append(part + (f" (best {spaced(best['descriptor'])}, R² {best['r2']:.2f})" if clear else ""))
    claim = "Descriptors that can be predicted linearly, better than by their mean: " + "; ".join(parts) + "."
    sure = "The 95 % interval of R² on held-out artists is above 0, and that over the seeds of heads too, uncorrected "
    sure += "for the number of descriptors; each is in `readable`. "
    counts = {(row["videos"], row["artists"]): row["space"] for row in tables["readable"]}
    (all_videos, all_artists), *test = counts
    sure += f"Features: {all_videos} videos of {all_artists} artists."
    if test:
        # The backbones of an experiment of its own may not have read them all.
        fewer = "".join(f", {counts[key].rpartition(', ')[0]} {key[0]} of {key[1]}" for key in test[1:])
        sure += f" Embeddings, and features for comparison: {test[0][0]} test videos of {test[0][1]} artists{fewer}, "
        sure += "on which no head was trained."
    return Finding(claim, sure)


def predicts(row: Row) -> bool:
    """Return whether a row of `readable` shows that a descriptor is predicted better than by its mean.

    For new videos and, of heads, for new trainings: both intervals of R² are above 0.
    """
    return bool(row["low"] > 0 and (row["seeds_low"] is None or row["seeds_low"] > 0))


def _spaces(tables: dict[str, list[Row]]) -> Finding:
    row = tables["spaces"][0]
    pair = row["first"], row["second"]
    neighbours = [line for line in tables["neighbours"] if (line["first"], line["second"]) == pair]
    p_values = {"CKA": row["cka_p"], "canonical correlations": row["cca_p"]}
    if neighbours:
        p_values["mutual neighbours"] = neighbours[0]["p"]
    if all(p <= LEVEL for p in p_values.values()):
        verdict = "more alike than chance"
    elif any(p <= LEVEL / len(p_values) for p in p_values.values()):  # one of several measures: Bonferroni
        verdict = "more alike than chance by some measures"
    else:
        verdict = "not shown to be more alike than chance"
    claim = (
        f"The features of {row['first']} and {row['second']} are {verdict}: CKA {row['cka']:.3f} (by chance "
        f"{row['cka_chance']:.3f}), mean of {row['cca_pairs']} held-out canonical correlations {row['cca']:.2f} "
        f"({row['cca_chance']:.2f}), the first {row['cca_first']:.2f}"
        + "".join(f", mutual neighbours {line['shared']:.3f} ({line['chance']:.3f})" for line in neighbours)
    )
    sure = ", ".join(f"{name} p = {p:.2g}" for name, p in p_values.items())
    sure += f"; by {row['draws']} random draws for whole artists ({row['train_artists']} in the training, "
    sure += f"{row['test_artists']} in the test split), so no p is below {1 / (1 + row['draws']):.2g}."
    return Finding(claim + ".", sure)


def floors(groups: np.ndarray, pairs: int, config: Config) -> list[str]:
    """Return a limit if there are too few artists (`groups` int64 [videos]) for so many pairs, otherwise nothing."""
    smallest, alpha = smallest_p(groups), config.study.relations.false_discoveries
    if smallest * pairs <= alpha:
        return []
    needed = int(np.ceil(smallest * pairs / alpha))
    return [
        f"With {int(groups.max()) + 1} artists no p is below {smallest:.2g}: a relation can only be called significant "
        f"together with {needed - 1} others of the {pairs}."
        if needed <= pairs
        else f"With {int(groups.max()) + 1} artists no p is below {smallest:.2g}, so no relation can be significant."
    ]


def spaced(name: str) -> str:
    """Return the name of a descriptor as words."""
    return name.replace("_", " ")


def _pair(row: Row) -> str:
    return f"{spaced(row['sound'])} with {spaced(row['picture'])}"
