"""The contrastive loss, its value for a guess and the lowest value that it can take. Reads and writes nothing."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from heads.kernels import logsumexps


def info_nce(audio: Tensor, video: Tensor, temperature: float) -> Tensor:
    """Bidirectional InfoNCE: the mean of both directions' cross-entropies, as a scalar.

    `audio` and `video` are unit vectors [n, d]; row i of the one belongs to row i of the other, and the other n - 1
    rows of the batch are its negatives. Per direction this is equation 4 of van den Oord et al. 2018 (arXiv
    1807.03748) on cosines divided by the temperature; the symmetric mean is CLIP's (Radford et al. 2021, arXiv
    2103.00020). Where the directions are added instead of averaged, losses are twice these (13.8 instead of 6.9 at
    chance for 1,000).
    """
    logits = audio / temperature @ video.T
    rows, columns = logsumexps(logits)
    return (rows.mean() + columns.mean()) / 2 - logits.diagonal().mean()


def chance_loss(pairs: int) -> float:
    """The loss over a batch of `pairs` when every candidate looks equally likely: ln(pairs)."""
    return math.log(pairs)


def lowest_loss(pairs: int, temperature: float, output: Literal["sigmoid", "linear"]) -> float:
    """No embeddings can bring the loss over a batch of `pairs` below this value.

    By Jensen's inequality the loss is at least ln(1 + (n-1)·exp(-gap/τ)), with `gap` the mean difference between the
    cosine of partners and that of strangers. With a sigmoid cosines are in [0, 1], so gap ≤ 1. Without, n strangers can
    be at most -1/(n-1) apart on average, so gap ≤ n/(n-1) (the simplex of Lu & Steinerberger 2022, arXiv 2012.08465).
    The bound is reached when the space has enough dimensions for such an arrangement (n, or n-1).
    """
    gap = 1.0 if output == "sigmoid" else pairs / (pairs - 1)
    return math.log1p((pairs - 1) * math.exp(-gap / temperature))
