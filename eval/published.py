"""The formula of the paper's published evaluation code, for comparison. It is not a rank. Reads and writes nothing."""

from __future__ import annotations

import numpy as np

NAME = "diag(argsort(similarity))"
LARGEST = 10_000
"""Sorting all rows of a larger matrix takes hours, to no purpose."""


def published_formula(queries: np.ndarray, candidates: np.ndarray, block: int = 256) -> np.ndarray:
    """Return diag(argsort(similarity)), which the published code takes for the rank of the positive; int64 [n].

    Row i of `argsort` lists the *candidates* from the least to the most similar to query i. Its element i is
    therefore the index of the candidate at position i, not the position of candidate i (that would need a second
    argsort). For a good model and for noise alike that is an arbitrary candidate, and the median over all queries is
    near n/2: tests/eval/test_ranks.py has a perfect model with n/2 by this formula and 1 by true ranks. The published
    code itself takes the values of video → audio for both directions; study/paper_code/ runs it.

    `queries` and `candidates` are [n, d] embeddings in any float type, compared by dot products.
    """
    queries, candidates = (np.asarray(vectors, dtype=np.float32) for vectors in (queries, candidates))
    values = []
    for start in range(0, len(queries), block):
        order = np.argsort(queries[start : start + block] @ candidates.T, axis=1)
        row = np.arange(len(order))
        values.append(order[row, start + row])
    return np.concatenate(values)
