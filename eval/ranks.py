"""Exact ranks of the positive; heads/metrics.py has what is computed of ranks. Reads and writes nothing.

A rank counts from 1 (the positive came first) to N (last). Ties share their middle rank: 1 + greater + equal/2, where
`equal` counts the negatives as similar as the positive. So a model that finds all candidates equally similar has
rank (N + 1)/2 throughout, however the candidates happen to be ordered.

All n² similarities are computed once for both directions, a tile at a time, and compared with the positives'. On a CPU
they are float32 products, whose error has a proven bound: what lies farther from the positive's similarity is certainly
greater or smaller, and the few others are computed again, exactly. On a GPU all are float64.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import threadpool_limits

DIRECTIONS = ("audio_to_video", "video_to_audio")
"""Names of the two directions, in the order in which `ranks` returns them."""
GRID = 2.0**24
TILE, CUDA_TILE = 1024, 8192
"""Queries and candidates a tile: on a CPU 4 MB of similarities, which its cache holds, on a GPU 512 MB."""
GROUP = 128
"""Comparisons added up in one byte."""
PAIRS = 4096
"""Pairs computed again at a time."""


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows [n, d] of any float type to length 1 and round them to multiples of 2⁻²⁴; float64.

    The rounding makes similarities exact: products are multiples of 2⁻⁴⁸ and their sums below 2, so float64 holds them
    without error. Equal pairs then have equal similarities, whatever the tile size or the BLAS, and ties are ties.
    The rounding itself is a thousandth of that of float16, in which embeddings are stored.
    Raises ValueError on values that are not finite and on rows of zeros.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length == 0).any():
        raise ValueError("embeddings are not finite, or zero: their similarities have no order")
    units: np.ndarray = np.round(vectors / length * GRID) / GRID
    return units


UNIT = (True, True)
"""Audio and video are compared as unit vectors; `config.heads.Experiment.unit` says it of an experiment."""


def rows_on_grid(vectors: np.ndarray, unit: bool) -> np.ndarray:
    """Return `unit_rows` of [n, d]; without `unit` rows that keep their lengths, all divided by one power of two.

    The longest row is then at most 1 long, and values are multiples of 2⁻²⁴ as in `unit_rows`: dot products are exact,
    and in the same order as before. A row of zeros is allowed. Raises ValueError on values that are not finite.
    """
    if unit:
        return unit_rows(vectors)
    vectors = np.asarray(vectors, dtype=np.float64)
    longest = float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
    if not np.isfinite(longest):
        raise ValueError("embeddings are not finite: their similarities have no order")
    rows: np.ndarray = np.round(vectors / 2.0 ** np.ceil(np.log2(longest or 1.0)) * GRID) / GRID
    return rows


def ranks(
    audio: np.ndarray, video: np.ndarray, tile: int | None = None, unit: tuple[bool, bool] = UNIT
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positives' ranks among n candidates by cosine, audio → video and video → audio.

    `audio` and `video` are [n, d] of any float type; the pair of row i is positive. A modality that is not `unit` keeps
    its lengths: candidates are compared by dot products with them. Returns two
    float64 [n], the same on every device and for every `tile` (queries and candidates compared at a time, at most
    1,024 on a CPU). Runs on the GPU if there is one, otherwise on as many cores as torch has threads. Beside float32
    copies of the arguments it needs some 20 MB a core.
    Raises ValueError on unequal shapes and on values that are not finite.
    """
    if audio.shape != video.shape or audio.ndim != 2:
        raise ValueError(f"shapes {audio.shape} and {video.shape} are not two equal [n, d]")
    audio, video = (on_grid(vectors, of_unit) for vectors, of_unit in zip((audio, video), unit, strict=True))
    blocks = [slice(start, start + PAIRS) for start in range(0, len(audio), PAIRS)]
    own = np.concatenate([similarities(audio[block], video[block]) for block in blocks])
    if torch.cuda.is_available():
        counted = exact_counts(audio, video, own, tile or CUDA_TILE, "cuda")
    else:
        counted = _Screen(audio, video, own, tile or TILE).run(torch.get_num_threads())
    # The positive itself counts as one equal: 1 + greater + equal/2 = (1 + (2 greater + equal + 1)) / 2.
    return (counted[0] + 1) / 2, (counted[1] + 1) / 2


def on_grid(vectors: np.ndarray, unit: bool = True) -> np.ndarray:
    """Return `rows_on_grid` as float32, which holds multiples of 2⁻²⁴ up to 1 without error."""
    if not unit:
        return rows_on_grid(vectors, unit).astype(np.float32)
    units = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), PAIRS):
        units[start : start + PAIRS] = unit_rows(vectors[start : start + PAIRS])
    return units


def similarities(audio: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Return the exact similarities of pairs of rows on the grid, [n, d] each: float64 [n]."""
    products: np.ndarray = np.einsum("nd,nd->n", audio.astype(np.float64), video.astype(np.float64))
    return products


def exact_counts(
    audio: np.ndarray, video: np.ndarray, own: np.ndarray, tile: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Count 2 · greater + equal for each query of both directions, the positive counted as equal; int64 [n] each.

    `audio` and `video` are rows on the grid [n, d], `own` float64 [n] the positives' similarities. All in float64,
    which a data centre's GPU multiplies as fast as float32; one without fast float64 takes longer, with the same
    result.
    """
    queries, candidates, positive = (torch.from_numpy(array).to(device, torch.float64) for array in (audio, video, own))
    counts = torch.zeros((2, len(own)), dtype=torch.int64, device=device)
    for top in range(0, len(own), tile):
        for left in range(0, len(own), tile):
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            similar = queries[rows] @ candidates[columns].T
            for direction, part, threshold in ((0, rows, positive[rows, None]), (1, columns, positive[columns])):
                for compared in (similar > threshold, similar >= threshold):
                    counts[direction, part] += compared.sum(1 - direction, dtype=torch.int32)
    by_row, by_column = counts.cpu().numpy()
    return by_row, by_column


class _Screen:
    """`exact_counts` on the CPU's cores: float32 products first, exact ones where those do not decide.

    Inner products of d numbers in float32 err by at most d · 2⁻²⁴ · |x|ᵀ|y|, whatever the order of summation (Jeannerod
    & Rump 2013, SIAM J. Matrix Anal. Appl. 34(2), theorem 4.2), and |x|ᵀ|y| is at most the lengths' product, which the
    grid leaves at most 2⁻¹⁰ above 1. Tiles mostly undecided, as those of a collapsed model, are in float64.
    """

    def __init__(self, audio: np.ndarray, video: np.ndarray, own: np.ndarray, tile: int) -> None:
        if tile > TILE:
            raise ValueError(f"tiles of {tile}: at most {TILE}")
        self.audio, self.video, self.own, self.tile = audio, video, own, tile
        error = audio.shape[1] * 2.0**-24 * (1 + 2.0**-10)
        # One float32 further than rounded to nearest: never nearer than the bound.
        self.high = np.nextafter((own + error).astype(np.float32), np.float32(np.inf))
        self.low = np.nextafter((own - error).astype(np.float32), np.float32(-np.inf))
        self.by_row = np.zeros(len(own), np.int64)
        self.by_column = np.zeros(len(own), np.int64)
        self.lock = threading.Lock()

    def run(self, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of both directions. Each thread has a BLAS of one thread: no product waits for another."""
        starts = range(0, len(self.own), self.tile)
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._panel, [starts[i::threads] for i in range(min(threads, len(starts)))]):
                pass
        return self.by_row, self.by_column

    def _panel(self, starts: range) -> None:
        """Compare the tiles' rows that begin at `starts` with all columns."""
        count, tile, by_column = len(self.own), self.tile, np.zeros_like(self.by_column)
        similar, masks = np.empty(tile * tile, np.float32), _Masks(tile)
        for top in starts:
            rows = slice(top, min(top + tile, count))
            for left in range(0, count, tile):
                columns = slice(left, min(left + tile, count))
                shape = (rows.stop - top, columns.stop - left)
                product = similar[: shape[0] * shape[1]].reshape(shape)
                np.matmul(self.audio[rows], self.video[columns].T, out=product)
                in_rows, in_columns = self._decided(product, rows, columns, masks) or self._exact(rows, columns, masks)
                self.by_row[rows] += in_rows
                by_column[columns] += in_columns
        with self.lock:
            self.by_column += by_column

    def _decided(
        self, product: np.ndarray, rows: slice, columns: slice, masks: _Masks
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Count a tile from its float32 similarities; None if the exact product costs less than the undecided."""
        counted = []
        for direction, part in enumerate((rows, columns)):
            masks.compare(
                product, *(bound[part] if direction else bound[part, None] for bound in (self.low, self.high))
            )
            undecided = masks.undecided(product.size // 64)
            if undecided is None:
                return None
            row, column = undecided
            counts = 2 * masks.counts(masks.above, direction)[: part.stop - part.start]
            for start in range(0, len(row), PAIRS):
                few = slice(start, start + PAIRS)
                exact = similarities(self.audio[rows.start + row[few]], self.video[columns.start + column[few]])
                query = (row, column)[direction][few]
                threshold = self.own[part][query]
                np.add.at(counts, query, (exact > threshold).astype(np.int64) + (exact >= threshold))
            counted.append(counts)
        return counted[0], counted[1]

    def _exact(self, rows: slice, columns: slice, masks: _Masks) -> tuple[np.ndarray, np.ndarray]:
        """Count a tile from its exact similarities."""
        product = self.audio[rows].astype(np.float64) @ self.video[columns].astype(np.float64).T
        counted = []
        for direction, part in enumerate((rows, columns)):
            own = self.own[part] if direction else self.own[part, None]
            masks.compare(product, own, own)
            counts = 2 * masks.counts(masks.above, direction) + masks.counts(masks.near, direction)
            counted.append(counts[: part.stop - part.start])
        return counted[0], counted[1]


class _Masks:
    """Comparisons of one tile, a byte each, eight of which are handled as one number.

    `above` and `near` are bool [rows, columns], both rounded up to what the counting needs and false there.
    """

    def __init__(self, tile: int) -> None:
        shape = (-(-tile // GROUP) * GROUP, -(-tile // 8) * 8)
        self.above, self.near = np.zeros(shape, bool), np.zeros(shape, bool)
        self.used = (0, 0)

    def compare(self, product: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Set `above` to product > high and `near` to low ≤ product ≤ high."""
        if product.shape != self.used:
            self.above[:], self.near[:] = False, False
            self.used = product.shape
        rows, columns = product.shape
        np.greater(product, high, out=self.above[:rows, :columns])
        np.greater_equal(product, low, out=self.near[:rows, :columns])
        self.near ^= self.above

    def undecided(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return rows and columns where `near` is set; None if it is in more than `most` groups of eight."""
        words = np.flatnonzero(self.near.view(np.uint64))
        if len(words) > most:
            return None
        which, byte = np.nonzero(self.near.reshape(-1, 8)[words])
        return np.divmod(words[which] * 8 + byte, self.near.shape[1])

    @staticmethod
    def counts(mask: np.ndarray, direction: int) -> np.ndarray:
        """Count how often the mask is set in each row (direction 0) or column (1), int64."""
        if direction == 0:
            total: np.ndarray = mask.view(np.uint64).sum(1).view(np.uint8).reshape(-1, 8).sum(1, dtype=np.int64)
        else:
            groups = mask.view(np.uint8).reshape(-1, GROUP, mask.shape[1])
            total = groups.sum(1, dtype=np.uint8).sum(0, dtype=np.int64)
        return total


def histogram(rank: np.ndarray, gallery: int, bins: int = 20) -> list[int]:
    """Count (rank - 1/2) / gallery in `bins` equal bins of [0, 1]: flat at chance, all in the first when perfect."""
    counts: list[int] = np.histogram((rank - 0.5) / gallery, bins=bins, range=(0.0, 1.0))[0].tolist()
    return counts
