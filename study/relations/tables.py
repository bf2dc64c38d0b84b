"""The tables of associations: of every pair of descriptors, of planted pairs, and of shuffled videos.

Reads and writes nothing. A pair is significant if q ≤ `study.relations.false_discoveries`. `groups` int64 [videos] says
which videos are of one artist (study/groups.py), because these are not independent.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from config.pipeline import Render
from study.answer import Row
from study.groups import repaired
from study.relations.associations import Associations, Table, associations, dummies
from study.relations.descriptors import Described
from study.relations.ground_truth import PLANTED, factor_associations, latents, section_offsets, shared_factors


def pairs(described: Described, genres: list[str | None], groups: np.ndarray, alpha: float) -> list[Row]:
    """Test every audio with every video descriptor, a row each, also with the genre held constant."""
    whole = associations(described.audio, described.video, None, groups)
    within = associations(described.audio, described.video, dummies(genres), groups)
    rows = []
    for i, audio in enumerate(whole.rows):
        for j, video in enumerate(whole.columns):
            row: Row = {"sound": audio, "picture": video, "videos": len(genres), "artists": int(groups.max()) + 1}
            row["direction"] = described.audio[audio].ndim + described.video[video].ndim > 2
            for prefix, tests in (("", whole), ("genre_", within)):
                row |= {f"{prefix}strength": float(tests.strength[i, j]), f"{prefix}p": float(tests.p[i, j])}
                row |= {f"{prefix}q": float(tests.q[i, j]), f"{prefix}significant": bool(tests.q[i, j] <= alpha)}
            rows.append(row)
    return rows


def shuffled(
    described: Described, genres: list[str | None], groups: np.ndarray, alpha: float, seeds: int, first: int
) -> list[Row]:
    """Count the discoveries after video descriptors are shuffled between artists, overall and within each genre.

    Artists are moved as a whole, so the videos of an artist stay alike in both modalities. If there is no association,
    every discovery is false, so the share of seeds with any discovery has the nominal rate. Shuffling within genres
    keeps what the genre explains, so there only the tests with the genre held constant have nothing to find.
    """
    _, codes = np.unique([str(genre) for genre in genres], return_inverse=True)
    known = dummies(genres)
    by_shuffle: dict[tuple[str, bool], list[Associations]] = {}
    for seed in range(first, first + seeds):
        for shuffle in ("all videos", "within genres"):
            order = _order(groups, codes if shuffle == "within genres" else np.zeros_like(codes), seed)
            kept = np.flatnonzero(order >= 0)
            if len(np.unique(groups[kept])) < 2:
                continue  # no other artist to shuffle with
            artists = np.unique(groups[kept], return_inverse=True)[1]
            audio: Table = {name: values[kept] for name, values in described.audio.items()}
            video: Table = {name: values[order[kept]] for name, values in described.video.items()}
            for held in (False, True):
                tests = associations(audio, video, known[kept] if held else None, artists)
                by_shuffle.setdefault((shuffle, held), []).append(tests)
    rows = []
    for (shuffle, held), by_seed in by_shuffle.items():
        discoveries = [int((tests.q <= alpha).sum()) for tests in by_seed]
        seeds_with_any = sum(count > 0 for count in discoveries)
        low, high = binomtest(seeds_with_any, seeds).proportion_ci(0.95, "exact")
        row: Row = {"shuffled": shuffle, "genre_held": held, "seeds": seeds, "pairs": by_seed[0].p.size}
        row |= {"discoveries": sum(discoveries), "seeds_with_any": seeds_with_any, "nominal": alpha}
        row |= {"share": seeds_with_any / seeds, "low": float(low), "high": float(high)}
        row["p_below_nominal"] = float(np.mean([(tests.p <= alpha).mean() for tests in by_seed]))
        # If the genre moves both modalities and is not held constant, discoveries are right.
        rows.append(row | {"nothing_to_find": shuffle == "all videos" or held, "kept": bool(low <= alpha)})
    return rows


def _order(groups: np.ndarray, codes: np.ndarray, seed: int) -> np.ndarray:
    """Shuffle artists as a whole within each genre: int64 [videos], whose frames each video gets, -1 for none."""
    rng, donors = np.random.default_rng(seed), np.full(len(codes), -1)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        order = repaired(np.unique(groups[members], return_inverse=True)[1], rng)
        donors[members] = np.where(order >= 0, members[order], -1)
    return donors


def planted(
    described: Described, matrix: list[Row], render: Render, numbers: np.ndarray, groups: np.ndarray
) -> tuple[list[Row], list[Row]]:
    """Return the rows of the planted pairs of rendered videos, and of every descriptor with every latent factor.

    `matrix`: the rows of `pairs`; `numbers` int64 [n]: the videos' numbers in the rendered collection.
    """
    by_pair = {(row["sound"], row["picture"]): row for row in matrix}
    rows = []
    for (audio, video), factor in PLANTED.items():
        row: Row = {"sound": audio, "picture": video, "factor": factor, "correlation": render.correlation}
        rows.append(row | {key: value for key, value in by_pair[audio, video].items() if key not in row})
    factors = []
    modalities = ("audio", described.audio), ("video", described.video)
    for (modality, table), scores in zip(modalities, latents(render, numbers), strict=True):
        tests = factor_associations(table, scores, groups)
        for i, descriptor in enumerate(tests.rows):
            for j, factor in enumerate(tests.columns):
                row = {"side": modality, "descriptor": descriptor, "factor": factor}
                factors.append(row | {"strength": float(tests.strength[i, j]), "q": float(tests.q[i, j])})
    return rows, factors


def unexplained(
    described: Described,
    genres: list[str | None],
    groups: np.ndarray,
    render: Render,
    numbers: np.ndarray,
    middles: np.ndarray,
) -> Associations:
    """Test the pairs of rendered videos with all that audio and video share held constant: no discovery is true.

    `numbers` as in `planted`; `middles` float [n, segments]: the middles of the segments in seconds.
    """
    sections = section_offsets(render, numbers, middles)
    shared = shared_factors(latents(render, numbers)[0], sections, dummies(genres))
    return associations(described.audio, described.video, shared, groups)
