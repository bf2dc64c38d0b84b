"""What the tables of `relations` say, in sentences; no figure in them that no table has. Reads and writes nothing."""

from __future__ import annotations

from config.model import Config
from eval.study.answer import Finding, Row

TITLE = "Which relations between sound and picture exist"
QUESTION = (
    "Which properties of the sound go with which of the picture, how much of that is the genre's doing, what "
    "of it do the backbones' features and the heads' embeddings carry, and how alike are the feature spaces?"
)
METHOD = (
    "Each segment has ten descriptors of its sound, by essentia (Bogdanov et al. 2013), and seven of its picture; a "
    "video's are the means of its segments'. Pairs are measured by Spearman's rank correlation and tested by its t "
    "distribution; directions (key on the circle of fifths, hue) by the canonical correlation of Jupp and Mardia "
    "(1980), which has no sign. The p-values of all pairs are corrected together (Benjamini and Hochberg 1995). "
    "Confounding by genre: the same with the residuals of the ranks within genres. Synchrony of beats and cuts is the "
    "largest correlation of note onsets and picture changes within 0.2 s, against the same sound beside other videos' "
    "pictures; it uses both sides, so it is no column of the matrix. Descriptors are read from mean features by ridge "
    "regression (its strength by leaving one out, held-out features clipped to the range of the others) and judged by "
    "R² on held-out artists, for directions the mean of sine and cosine. Feature spaces, all standardised: linear CKA "
    "(Kornblith et al. 2019) of the training segments; canonical correlations fitted on the training split, the ridge "
    "chosen on the validation split, measured on the test split; shares of mutual nearest neighbours (Huh et al. 2024) "
    "of mean features. Every baseline pairs videos anew. Covariances and descriptors are computed over the whole cache "
    "with dask, a shard a "
    "task."
)
LIMITS = [
    "Tests treat videos as independent; those of one artist are not quite, which makes p-values a little too small.",
    "Descriptors are estimates: of three seconds the tempo is often doubled or halved, and a key is a guess.",
    "Genre is one word a video; what differs inside a genre by subgenre or period is still confounded.",
    "Correlations say nothing of causes, and ranks see only what rises or falls steadily.",
    "CKA and canonical correlations count segments, whose videos repeat; their baselines keep that and the splits.",
]


def findings(tables: dict[str, list[Row]], config: Config) -> list[Finding]:
    """The answer's sentences, the most important first."""
    alpha = config.study.relations.false_discoveries
    found = [_pairs(tables["descriptors"], alpha)]
    if "planted" in tables:
        found.append(_planted(tables["planted"], tables["descriptors"], alpha))
    return [*found, _shuffled(tables["shuffled"]), _synchrony(tables["synchrony"][0]), _read(tables), _spaces(tables)]


def _pairs(rows: list[Row], alpha: float) -> Finding:
    significant = [row for row in rows if row["significant"]]
    held = [row for row in significant if row["genre_significant"]]
    best = sorted(held, key=lambda row: -abs(row["genre_strength"]))[:3]
    claim = f"{len(significant)} of {len(rows)} pairs of descriptors go together, {len(held)} also inside genres"
    if best:
        claim += "; the strongest there: " + ", ".join(
            f"{_word(row['sound'])} with {_word(row['picture'])} ({row['genre_strength']:+.2f})"
            if not row["direction"]
            else f"{_word(row['sound'])} with {_word(row['picture'])} ({row['genre_strength']:.2f}, a direction)"
            for row in best
        )
    sure = f"{rows[0]['videos']} videos; of those called significant at most {alpha:.0%} are false on average."
    return Finding(claim + ".", sure)


def _planted(planted: list[Row], rows: list[Row], alpha: float) -> Finding:
    there = [row for row in planted if row["significant"]]
    left = [row for row in rows if row["left_q"] <= alpha]
    rho = planted[0]["correlation"]
    claim = f"Of {len(planted)} relations that the renderer planted (correlation {rho:g}), {len(there)} come out"
    lost = [f"{_word(row['sound'])} with {_word(row['picture'])}" for row in planted if not row["significant"]]
    claim += f", not {', '.join(lost)}." if lost and rho > 0 else "."
    claim += f" With all planted factors held constant, {len(left)} of {len(rows)} pairs {_are(len(left))} left"
    claim += ", where none should be." if left else "."
    sure = f"At a false discovery rate of {alpha:.0%}; strengths in the table `planted`. "
    return Finding(claim, sure + "Factors are held constant by deciles and products, which finer bends may escape.")


def _shuffled(rows: list[Row]) -> Finding:
    tests = [row for row in rows if row["nothing_to_find"]]
    worst = max(tests, key=lambda row: row["share"])
    claim = (
        f"Where pictures are shuffled and there is nothing to find, {worst['seeds_with_any']} of {worst['seeds']} "
        "shuffles or fewer have any significant pair"
        + (", no more than the nominal rate allows." if all(row["kept"] for row in tests) else ": too many.")
    )
    interval = f"95 % interval of the share {worst['low']:.2f} to {worst['high']:.2f}, nominal {worst['nominal']:g}"
    below = ", ".join(f"{row['p_below_nominal']:.3f}" for row in tests)
    return Finding(claim, f"{interval}; single p-values below it: {below} of all.")


def _synchrony(row: Row) -> Finding:
    if row["low"] > 0:
        claim = "Pictures change with the beats more than chance would have it"
    elif row["high"] < 0:
        claim = "Pictures change with the beats less than chance would have it"
    else:
        claim = "Pictures change with the beats no more than chance would have it"
    claim += f": synchrony {row['synchrony']:.3f}, {row['chance']:.3f} beside other videos' pictures."
    return Finding(claim, f"Difference {row['gain']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f}.")


def _read(tables: dict[str, list[Row]]) -> Finding:
    spaces: dict[str, list[Row]] = {}
    for row in tables["readable"]:
        spaces.setdefault(row["space"], []).append(row)
    words = []
    for space, rows in spaces.items():
        clear = [row for row in rows if row["low"] > 0]
        best = max(rows, key=lambda row: row["r2"])
        words.append(f"{space} {len(clear)} of {len(rows)} (best {_word(best['descriptor'])}, R² {best['r2']:.2f})")
    claim = "Descriptors that can be read linearly, better than from nothing: " + "; ".join(words) + "."
    return Finding(claim, "The 95 % interval of R² on held-out artists is above 0; per descriptor in `readable`.")


def _spaces(tables: dict[str, list[Row]]) -> Finding:
    row = tables["spaces"][0]
    near = tables["neighbours"][0]
    more = [
        row["cka"] > row["cka_chance_high"],
        row["cca"] > row["cca_chance_high"],
        near["low"] > near["chance_high"],
    ]
    how = "more alike than chance" if all(more) else "no more alike than chance"
    if any(more) and not all(more):
        how = "more alike than chance by some measures"
    claim = (
        f"The features of {row['first']} and {row['second']} are {how}: CKA {row['cka']:.3f} (re-paired "
        f"{row['cka_chance']:.3f}), mean of {row['cca_pairs']} held-out canonical correlations {row['cca']:.2f} "
        f"({row['cca_chance']:.2f}), the first {row['cca_first']:.2f}, mutual neighbours {near['shared']:.3f} "
        f"({near['chance']:.3f})."
    )
    return Finding(claim, f"Each against {row['repairings']} re-pairings, all of which it has to exceed.")


def _word(name: str) -> str:
    return name.replace("_", " ")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
