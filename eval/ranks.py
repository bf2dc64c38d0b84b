"""Exact ranks of the true partner, and what is commonly said about ranks. Reads and writes nothing.

A rank counts from 1 (the partner came first) to N (last). Ties share their middle rank: 1 + greater + equal/2, where
`equal` counts the other candidates as similar as the partner. So a model that finds all candidates equally similar has
rank (N + 1)/2 throughout, however the candidates happen to be ordered.
"""

from __future__ import annotations

import numpy as np
import torch

HITS = (1, 5, 10)
"""The k of recall at k."""
GRID = 2.0**24


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows [n, d] of any float type, scaled to length 1 and rounded to multiples of 2⁻²⁴, as float64.

    The rounding makes similarities exact: products are multiples of 2⁻⁴⁸ and their sums below 2, so float64 holds them
    without error. Equal pairs then have equal similarities, whatever the block size or the BLAS, and ties are ties.
    The rounding itself is a thousandth of that of float16, in which embeddings are stored.
    Raises ValueError on values that are not finite and on rows of zeros.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length == 0).any():
        raise ValueError("embeddings are not finite, or zero: their similarities have no order")
    return np.round(vectors / length * GRID) / GRID


def ranks(audio: np.ndarray, video: np.ndarray, block: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the true partners among n candidates by cosine, sound → picture and picture → sound.

    `audio` and `video` are [n, d] of any float type, row i of the one belonging to row i of the other. Returns two
    float64 [n]. Memory is `block` rows of n similarities, time is one pass over all n² of them.
    Raises ValueError on unequal shapes and on values that are not finite.
    """
    if audio.shape != video.shape or audio.ndim != 2:
        raise ValueError(f"shapes {audio.shape} and {video.shape} are not two equal [n, d]")
    n = len(audio)
    # Small enough for a cache, yet enough rows for a fast matrix product.
    block = block or max(64, 2**20 // max(n, 1))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, v = (torch.from_numpy(unit_rows(side)).to(device) for side in (audio, video))
    # Sums are exact, so these are the same numbers, to the last bit, as on the diagonal of the matrix product.
    own = (a * v).sum(1)
    by_row, by_column = torch.zeros_like(own), torch.zeros_like(own)
    for at in range(0, n, block):
        similar = a[at : at + block] @ v.T
        # The signs of the differences to the partner's similarity add up to greater - smaller.
        by_row[at : at + block] = (similar - own[at : at + block, None]).sign_().sum(1)
        by_column += similar.sub_(own).sign_().sum(0)
    # greater + smaller + equal + 1 = n, hence 1 + greater + equal/2 = (n + 1 + greater - smaller) / 2.
    return ((n + 1 + by_row) / 2).cpu().numpy(), ((n + 1 + by_column) / 2).cpu().numpy()


def summary(rank: np.ndarray) -> dict[str, float]:
    """Median and mean rank, recall at 1, 5 and 10 (share of ranks ≤ k) and mean reciprocal rank of `rank` [n]."""
    hits = {f"recall_at_{k}": float((rank <= k).mean()) for k in HITS}
    return {"median": float(np.median(rank)), "mean": float(rank.mean()), **hits, "mrr": float((1 / rank).mean())}


def chance(gallery: int) -> dict[str, float]:
    """What `summary` is expected to be for a guess among `gallery` candidates: ranks uniform on 1 … gallery."""
    middle = (gallery + 1) / 2
    hits = {f"recall_at_{k}": min(k, gallery) / gallery for k in HITS}
    return {"median": middle, "mean": middle, **hits, "mrr": float((1 / np.arange(1, gallery + 1)).mean())}


def histogram(rank: np.ndarray, gallery: int, bins: int = 20) -> list[int]:
    """Counts of (rank - 1/2) / gallery in `bins` equal bins of [0, 1]: flat for a guess, in the first when perfect."""
    return np.histogram((rank - 0.5) / gallery, bins=bins, range=(0.0, 1.0))[0].tolist()
