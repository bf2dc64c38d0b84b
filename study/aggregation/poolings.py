"""Poolings of a video's segments into one vector: small modules, all with one signature. Reads and writes nothing.

Every pooling takes `tokens`, float32 [videos, segments, dim], and `good`, bool [videos, segments] with a true one in
each row, and returns float32 [videos, dim]; segments that are not good have no effect. All but `max` start as the mean,
so that what is compared is what was learned and not the initialisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SECTION = 2
"""Neighbouring segments that `Hierarchical` pools first."""
HEADS = 4


def mean(tokens: Tensor, good: Tensor) -> Tensor:
    """Return the mean of each video's good tokens, [videos, dim]."""
    return _weighted(tokens, good / good.sum(1, keepdim=True))


def shares(scores: Tensor, good: Tensor) -> Tensor:
    """Return the softmax of `scores` [videos, segments] over each video's good segments; all 0 where none is good."""
    has_good = good.any(1, keepdim=True)
    return scores.masked_fill(~good & has_good, -torch.inf).softmax(1) * has_good


def _weighted(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of tokens times `weights` [videos, segments]."""
    # A weight of 0 alone would keep the NaN of a damaged segment.
    return (tokens.masked_fill((weights == 0)[..., None], 0) * weights[..., None]).sum(1)


class Mean(nn.Module):
    """Take the mean: the paper's pooling (arXiv 2309.00347), there applied after training."""

    def __init__(self, dim: int, segments: int, dropout: float) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        return mean(tokens, good)


class Max(Mean):
    """Take the largest value in each dimension."""

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        return tokens.masked_fill(~good[..., None], -torch.inf).amax(1)


class Residual(nn.Module):
    """Add a learned change, initially 0, to […, dim]."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        last = nn.Linear(hidden, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


class MeanLayer(nn.Module):
    """Apply a layer to the mean: as many parameters as the larger poolings, but no view of single segments."""

    def __init__(self, dim: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.layer = Residual(dim, dim, dropout)

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        return self.layer(mean(tokens, good))


class Learned(nn.Module):
    """Weight segments by position: a softmax of one learned score a position over the good ones."""

    def __init__(self, dim: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(segments))

    def weights(self, tokens: Tensor, good: Tensor) -> Tensor:
        """Return float32 [videos, segments], each row summing to 1."""
        return shares(self.scores.expand(good.shape), good)

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        return _weighted(tokens, self.weights(tokens, good))


class Attention(nn.Module):
    """Weight segments by content: softmax of wᵀ tanh(V h), Ilse et al. 2018 (arXiv 1802.04712), equation 8."""

    def __init__(self, dim: int, segments: int, dropout: float, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(dim, hidden or 2 * dim), nn.Tanh())
        self.score = nn.Linear(hidden or 2 * dim, 1, bias=False)  # a bias is the same for all: softmax drops it
        nn.init.zeros_(self.score.weight)

    def weights(self, tokens: Tensor, good: Tensor) -> Tensor:
        """Return float32 [videos, segments], each row summing to 1."""
        return shares(self.score(self.hidden(tokens.masked_fill(~good[..., None], 0)))[..., 0], good)

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        return _weighted(tokens, self.weights(tokens, good))


class Hierarchical(nn.Module):
    """Pool neighbouring segments to sections and sections to the video, both by attention, with a layer between.

    Yang et al. 2016 (Hierarchical Attention Networks, NAACL N16-1174) pool words to sentences to texts this way. Where
    sections have unequal numbers of good segments it starts as the mean of means.
    """

    def __init__(self, dim: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = (Attention(dim, segments, dropout, dim // 2) for _ in range(2))
        self.layer = Residual(dim, dim // 2, dropout)

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        videos, segments, dim = tokens.shape
        padding = -segments % SECTION
        tokens = nn.functional.pad(tokens, (0, 0, 0, padding)).reshape(-1, SECTION, dim)
        parts = nn.functional.pad(good, (0, padding)).reshape(-1, SECTION)
        sections = self.layer(self.inner(tokens, parts)).unflatten(0, (videos, -1))
        return self.outer(sections, parts.any(1).unflatten(0, (videos, -1)))


class Transformer(nn.Module):
    """Apply a pre-norm transformer layer with learned positions to the segments, then take the mean.

    Vaswani et al. 2017 (arXiv 1706.03762); pre-norm as in Xiong et al. 2020 (arXiv 2002.04745). The layer's
    output is added to the tokens through a projection that starts at 0.
    """

    def __init__(self, dim: int, segments: int, dropout: float) -> None:
        super().__init__()
        width = -(-dim * 3 // 8 // HEADS) * HEADS
        self.enter, self.leave = nn.Linear(dim, width), nn.Linear(width, dim)
        self.positions = nn.Parameter(torch.randn(segments, width) / 2)
        self.layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, tokens: Tensor, good: Tensor) -> Tensor:
        clean = tokens.masked_fill(~good[..., None], 0)
        # Tokens are unit vectors: scaled so that a coordinate is about 1, like the positions.
        inside = self.enter(clean * clean.shape[-1] ** 0.5) + self.positions
        return mean(clean + self.leave(self.layer(inside, src_key_padding_mask=~good)), good)


POOLINGS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "mean": Mean,
    "max": Max,
    "learned": Learned,
    "attention": Attention,
    "hierarchical": Hierarchical,
    "transformer": Transformer,
    "mean_layer": MeanLayer,
}
"""By name: (dim, segments, dropout) → pooling."""
