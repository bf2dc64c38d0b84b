"""CKA and canonical correlations by chance, from random signs of whole artists. Opens no file.

The covariance between two centred spaces is a sum of the contributions of the artists. If the spaces have nothing in
common, a contribution is as likely as its opposite, however many videos the artist has and however alike they are. So
each draw gives every artist a random sign, as in study/relations/associations.py. Re-pairing single videos instead
would count what an artist's videos have in common in each modality as a relation, and CKA would always find one.
Covariances within a space do not change. A sample of videos is used that fits into memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eval.bootstrap import percentile_bounds
from pipeline.features import good_segments
from study.answer import Row
from study.relations.similarity import Blocks, cka, directions, held_out, spectra_of, standardised

Signs = np.ndarray | None
"""float32 [artists], 1 or -1; None: the data as they are."""


def p_value(value: float, chance: np.ndarray) -> float:
    """Return the one-sided p, (1 + b) / (1 + n), if b of n draws are at least `value` (Phipson & Smyth 2010)."""
    return float((1 + (chance >= value * (1 - 1e-5)).sum()) / (1 + len(chance)))  # despite rounding


@dataclass(frozen=True)
class Sample:
    """Sampled videos of one split: `spaces` {backbone: float32 [segments, dim]}, centred; `groups` int64 [segments].

    Centred at the mean of the artists' means. The mean of all segments is mostly that of the artists with many videos:
    what such an artist happens to share would be part of the contributions of all others, which get other signs, and
    chance would come out too low.

    Only segments that are undamaged in all spaces. The groups are artists, numbered from 0.
    """

    spaces: dict[str, np.ndarray]
    groups: np.ndarray
    videos: int

    @classmethod
    def of(cls, spaces: dict[str, np.ndarray], groups: np.ndarray) -> Sample:
        """Centre the cache's features [videos, segments, dim], NaN where damaged; `groups` int64 [videos]."""
        good = good_segments(*spaces.values())
        numbers, sizes = np.unique(groups[np.nonzero(good)[0]], return_inverse=True, return_counts=True)[1:]
        centred = {}
        for name, features in spaces.items():
            x = features[good].astype(np.float32)
            of_artists = np.zeros((len(sizes), x.shape[1]))
            np.add.at(of_artists, numbers, x)
            centred[name] = (x - (of_artists / sizes[:, None]).mean(axis=0)).astype(np.float32)
        return cls(centred, numbers, int(good.any(axis=1).sum()))

    @property
    def artists(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1

    @property
    def sizes(self) -> np.ndarray:
        """Segments of each group, int64 [artists]."""
        return np.bincount(self.groups)

    def alike(self, name: str) -> float:
        """Return the intraclass correlation of a space: how alike an artist's segments are, 0 to 1.

        From the mean squares between and within artists (one-way analysis of variance), summed over the features.
        """
        x, sizes = self.spaces[name].astype(np.float64), self.sizes
        sums = np.zeros((len(sizes), x.shape[1]))
        np.add.at(sums, self.groups, x)
        total, between = (x**2).sum(), (sums**2 / sizes[:, None]).sum()
        within = (total - between) / max(1, len(x) - len(sizes))
        between = (between - (x.sum(axis=0) ** 2).sum() / len(x)) / max(1, len(sizes) - 1)
        usual = (len(x) - (sizes**2).sum() / len(x)) / max(1, len(sizes) - 1)
        whole = between + (usual - 1) * within
        return float(np.clip((between - within) / whole, 0, 1)) if whole > 0 else 0.0

    def expected(self, alike: tuple[float, float], signs: Signs = None) -> float:
        """Return what the squared norm of a cross-covariance is expected to be where two spaces share nothing, up to a
        factor that does not depend on the signs. `alike`: their intraclass correlations.

        Centring takes less from the data as they are than from those with signs, because it binds all artists
        together; with few artists that is several percent. With A = Cᵀ S C, C centring and S signs, and K the
        correlations of segments in a space, this is tr(A K A K') (Hemerik, Goeman & Finos 2020, JRSS B 82, and De
        Santis et al. 2025, on standardised sign flips).
        """
        sizes = self.sizes.astype(np.float64)
        s = np.ones(len(sizes)) if signs is None else signs.astype(np.float64)
        weight = 1 / (len(sizes) * sizes)
        # A is s on the diagonal plus a constant for each pair of artists.
        shift = -np.outer(s, weight) - np.outer(weight, s) + np.outer(weight, weight) * (sizes @ s)
        segments = sizes.sum() + 2 * (sizes * s * np.diag(shift)).sum() + sizes @ shift**2 @ sizes
        artists = np.diag(s) + shift * sizes
        mixed, both = (sizes[:, None] * artists**2).sum(), ((sizes[:, None] * artists) ** 2).sum()
        x, y = alike
        return float((1 - x) * (1 - y) * segments + (x * (1 - y) + y * (1 - x)) * mixed + x * y * both)

    def signs(self, count: int, seed: int) -> list[np.ndarray]:
        """Draw `count` times the signs of all artists."""
        rng = np.random.default_rng([seed, self.artists])
        return [(2 * rng.integers(0, 2, self.artists) - 1).astype(np.float32) for _ in range(count)]

    def covariance(self, name: str) -> np.ndarray:
        """Return the covariance of a space, float64 [dim, dim]."""
        x = self.spaces[name]
        return np.asarray((x.T @ x).astype(np.float64) / len(x))

    def cross_covariance(self, first: str, second: str, signs: Signs = None) -> np.ndarray:
        """Return the covariance of two spaces, float64 [dim, dim], with these signs of the artists."""
        x, y = self.spaces[first], self.spaces[second]
        if signs is not None:
            y = y * signs[self.groups][:, None]
        return np.asarray((x.T @ y).astype(np.float64) / len(x))


@dataclass(frozen=True)
class Similarity:
    """CKA of the training segments, with signs brought to the scale of those without (`Sample.expected`), and the
    canonical correlations in the test split, float64 [pairs]."""

    cka: float
    canonical: np.ndarray


class Pairing:
    """Two spaces with all that does not change from draw to draw."""

    def __init__(self, train: Sample, test: Sample, pair: tuple[str, str], ridge: float) -> None:
        self.train, self.test, self.pair, self.ridge = train, test, pair, ridge
        self.inner = [[split.covariance(name) for name in pair] for split in (train, test)]
        self.alike = train.alike(pair[0]), train.alike(pair[1])
        xx, yy = self.inner[0]
        alone = xx, np.zeros((len(xx), len(yy))), yy
        self.spectra = spectra_of(standardised(alone, alone))

    def measures(self, draws: Iterable[tuple[Signs, Signs]]) -> list[Similarity]:
        """Measure once for each draw: the signs of the artists of the training split, and of the test split."""
        similarities = []
        for train_signs, test_signs in draws:
            train = self._blocks(0, self.train.cross_covariance(*self.pair, train_signs))
            test = self._blocks(1, self.test.cross_covariance(*self.pair, test_signs))
            left, right = directions(standardised(train, train)[1], self.spectra, self.ridge)
            scale = self.train.expected(self.alike) / self.train.expected(self.alike, train_signs)
            similarities.append(Similarity(cka(train) * scale, held_out(standardised(test, train), left, right)))
        return similarities

    def _blocks(self, split: int, between: np.ndarray) -> Blocks:
        return self.inner[split][0], between, self.inner[split][1]


def add_chance(rows: list[Row], spectra: list[Row], train: Sample, test: Sample, count: int, seed: int) -> None:
    """Add to the rows of `study.relations.space_tables.linear` chance, by `count` draws of signs, and the p-values.

    `cka_chance`, `cca_chance` and `cca_first_chance` are means over the draws, `…_high` the highest draw. For p the
    sample is compared with its own draws, because CKA depends on the number of videos.
    """
    draws: list[tuple[Signs, Signs]] = [(None, None)]
    draws += zip(train.signs(count, seed), test.signs(count, seed + 1), strict=True)
    for row in rows:
        pair = row["first"], row["second"]
        true, *random = Pairing(train, test, pair, row["ridge"]).measures(draws)
        canonical = np.stack([similarity.canonical for similarity in random])
        for name, value, chance in (
            ("cka", true.cka, np.array([similarity.cka for similarity in random])),
            ("cca", float(true.canonical.mean()), canonical.mean(axis=1)),
            ("cca_first", float(true.canonical[0]), canonical[:, 0]),
        ):
            row |= {f"{name}_chance": float(chance.mean()), f"{name}_chance_high": float(chance.max())}
            row[f"{name}_p"] = p_value(value, chance)
        row |= {"draws": count, "sampled_videos": train.videos + test.videos}
        row |= {"train_artists": train.artists, "test_artists": test.artists}
        ends = percentile_bounds(canonical)
        for spectrum_row in spectra:
            if (spectrum_row["first"], spectrum_row["second"]) == pair:
                low, high = (float(end[spectrum_row["pair"] - 1]) for end in ends)
                spectrum_row |= {"chance_low": low, "chance_high": high}
