"""The tables of what goes together: every pair of descriptors, what was planted, what is found where nothing is.

Reads and writes nothing. Significance is q ≤ `study.relations.false_discoveries`.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from config.model import Render
from eval.study.answer import Row
from eval.study.associations import Associations, Table, associations, dummies
from eval.study.described import Described
from eval.study.planted import PLANTED, given, latents, sectional, seen


def pairs(described: Described, genres: list[str | None], alpha: float) -> list[Row]:
    """A row for every descriptor of the sound with every one of the picture, also with the genre held constant."""
    whole = associations(described.sound, described.picture)
    within = associations(described.sound, described.picture, dummies(genres))
    rows = []
    for i, sound in enumerate(whole.rows):
        for j, picture in enumerate(whole.columns):
            row: Row = {"sound": sound, "picture": picture, "videos": len(genres)}
            row["direction"] = described.sound[sound].ndim + described.picture[picture].ndim > 2
            for prefix, found in (("", whole), ("genre_", within)):
                row |= {f"{prefix}strength": float(found.strength[i, j]), f"{prefix}p": float(found.p[i, j])}
                row |= {f"{prefix}q": float(found.q[i, j]), f"{prefix}significant": bool(found.q[i, j] <= alpha)}
            rows.append(row)
    return rows


def shuffled(described: Described, genres: list[str | None], alpha: float, seeds: int, first: int) -> list[Row]:
    """What is found where pictures are shuffled, over all videos and inside each genre.

    Where nothing goes together every discovery is false, so the nominal rate is that of seeds with any at all. Inside
    genres what the genre explains stays, and only the associations with the genre held constant have nothing to find.
    """
    _, codes = np.unique([str(genre) for genre in genres], return_inverse=True)
    known = dummies(genres)
    runs: dict[tuple[str, bool], list[Associations]] = {}
    for seed in range(first, first + seeds):
        for shuffle in ("all videos", "inside genres"):
            order = _order(codes if shuffle == "inside genres" else np.zeros_like(codes), seed)
            picture: Table = {name: values[order] for name, values in described.picture.items()}
            for held in (False, True):
                found = associations(described.sound, picture, known if held else None)
                runs.setdefault((shuffle, held), []).append(found)
    rows = []
    for (shuffle, held), each_seed in runs.items():
        discoveries = [int((each.q <= alpha).sum()) for each in each_seed]
        any_at_all = sum(count > 0 for count in discoveries)
        low, high = binomtest(any_at_all, seeds).proportion_ci(0.95, "exact")
        row: Row = {"shuffled": shuffle, "genre_held": held, "seeds": seeds, "pairs": each_seed[0].p.size}
        row |= {"discoveries": sum(discoveries), "seeds_with_any": any_at_all, "nominal": alpha}
        row |= {"share": any_at_all / seeds, "low": float(low), "high": float(high)}
        row["p_below_nominal"] = float(np.mean([(each.p <= alpha).mean() for each in each_seed]))
        # Where the genre moves both sides and is not held constant, finding that is right.
        rows.append(row | {"nothing_to_find": shuffle == "all videos" or held, "kept": bool(low <= alpha)})
    return rows


def _order(codes: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of the videos that moves each inside its group."""
    order = np.lexsort((np.random.default_rng(seed).random(len(codes)), codes))
    found = np.empty(len(codes), np.int64)
    found[np.argsort(codes, kind="stable")] = order
    return found


def planted(
    described: Described, matrix: list[Row], render: Render, numbers: np.ndarray
) -> tuple[list[Row], list[Row]]:
    """Of rendered videos (`numbers`: which, int64 [n]): the planted pairs, and which factor each descriptor sees."""
    by_pair = {(row["sound"], row["picture"]): row for row in matrix}
    rows = []
    for (sound, picture), factor in PLANTED.items():
        row = by_pair[sound, picture]
        line: Row = {"sound": sound, "picture": picture, "factor": factor, "correlation": render.correlation}
        rows.append(line | {k: v for k, v in row.items() if k not in line})
    scores = latents(render, numbers)
    factors = []
    for side, table, own in (("audio", described.sound, scores[0]), ("video", described.picture, scores[1])):
        found = seen(table, own)
        for i, descriptor in enumerate(found.rows):
            for k, factor in enumerate(found.columns):
                line = {"side": side, "descriptor": descriptor, "factor": factor}
                factors.append(line | {"strength": float(found.strength[i, k]), "q": float(found.q[i, k])})
    return rows, factors


def explained(
    described: Described, genres: list[str | None], render: Render, numbers: np.ndarray, middles: np.ndarray
) -> Associations:
    """What is left of the associations of rendered videos when all that is shared is held constant: nothing true.

    `numbers` as in `planted`; `middles` float [n, segments]: the middles of the segments, in seconds.
    """
    sections = sectional(render, numbers, middles)
    shared = given(latents(render, numbers)[0], sections, dummies(genres))
    return associations(described.sound, described.picture, shared)
