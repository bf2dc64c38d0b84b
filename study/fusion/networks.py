"""Networks that predict labels from audio and video together, with one signature. Reads and writes nothing.

Every fusion takes standardised `audio` and `video`, float32 [videos, segments, dim] each, and `good`, bool [videos,
segments], and returns logits [videos, classes]. A missing modality is all zeros, the mean of the training videos. All
but `CrossAttention` see only the mean of a video's good segments. `hidden` sets the widths so that all have about as
many parameters as concatenation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from study.aggregation.poolings import mean

HEADS = 4


class Single(nn.Module):
    """Classify one modality alone with one hidden layer: the reference for what the other modality adds."""

    def __init__(self, modality: int, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.modality = modality
        self.layers = _perceptron(dims[modality], classes, hidden, dropout)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.layers(mean((audio, video)[self.modality], good))


class Concatenation(nn.Module):
    """Classify the concatenated features of both modalities with one hidden layer (early fusion)."""

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = _perceptron(sum(dims), classes, hidden, dropout)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.layers(torch.cat([mean(audio, good), mean(video, good)], dim=1))


class Gated(nn.Module):
    """Gate both modalities: h = z ∘ tanh(W_a a) + (1 - z) ∘ tanh(W_v v), z = σ(W_z [a; v]).

    The gated multimodal unit of Arevalo et al. 2017 (arXiv 1702.01992), section 3.1.
    """

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        width = hidden // 2
        self.enter = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.gate = nn.Linear(sum(dims), width)
        self.leave = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        a, v = mean(audio, good), mean(video, good)
        z = self.gate(torch.cat([a, v], dim=1)).sigmoid()
        hidden_a, hidden_v = self.enter[0](a).tanh(), self.enter[1](v).tanh()
        return self.leave(z * hidden_a + (1 - z) * hidden_v)


class Bilinear(nn.Module):
    """Fuse by a low-rank bilinear form: h = Σ_r (W_a^r [a; 1]) ∘ (W_v^r [v; 1]), of rank `RANK` in each h.

    Liu et al. 2018 (arXiv 1806.00064), equation 6. The appended 1 keeps the terms linear in one modality.
    """

    RANK = 4

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.width = hidden // self.RANK
        factors = [nn.Linear(dim, self.RANK * self.width) for dim in dims]
        for factor in factors:
            nn.init.ones_(factor.bias)  # the weight of the appended 1: at first each modality passes through alone
        self.factors = nn.ModuleList(factors)
        self.leave = nn.Sequential(nn.LayerNorm(self.width), nn.Dropout(dropout), nn.Linear(self.width, classes))

    def fused(self, audio: Tensor, video: Tensor) -> Tensor:
        """Return the fused vectors [videos, width] of audio and video, [videos, dim] each."""
        product = self.factors[0](audio) * self.factors[1](video)
        return product.unflatten(1, (self.RANK, self.width)).sum(1)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.leave(self.fused(mean(audio, good), mean(video, good)))


class CrossAttention(nn.Module):
    """Attend from each modality's segments to the other's, with a residual, then take the mean over segments.

    Tsai et al. 2019 (arXiv 1906.00295), section 3.1, with one layer and without positions.
    """

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        width = -(-hidden * 5 // 8 // HEADS) * HEADS
        self.enter = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in dims)
        self.attend = nn.ModuleList(nn.MultiheadAttention(width, HEADS, dropout, batch_first=True) for _ in dims)
        self.leave = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, classes))

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        a, v = (enter(features) for enter, features in zip(self.enter, (audio, video), strict=True))
        pooled = []
        for queries, keys, number in ((a, v, 0), (v, a, 1)):
            query, key = self.norms[number](queries), self.norms[1 - number](keys)
            attended, _ = self.attend[number](query, key, key, key_padding_mask=~good, need_weights=False)
            pooled.append(mean(queries + attended, good))
        return self.leave(torch.cat(pooled, dim=1))


def _perceptron(dim: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


FUSIONS = ("audio", "video", "concatenation", "gated", "bilinear", "cross_attention", "cca")
"""All fusions, in the order shown; `cca` is concatenation of canonical variates (study/fusion/cca.py)."""
CLASSES: dict[str, type[nn.Module]] = {
    "concatenation": Concatenation,
    "gated": Gated,
    "bilinear": Bilinear,
    "cross_attention": CrossAttention,
    "cca": Concatenation,
}


def build(name: str, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> nn.Module:
    """Return the untrained network of this name for audio and video features of widths `dims`."""
    if name in ("audio", "video"):
        return Single(("audio", "video").index(name), dims, classes, hidden, dropout)
    return CLASSES[name](dims, classes, hidden, dropout)
