"""Networks that predict labels from sound and pictures together, with one signature. Reads and writes nothing.

Every fusion takes standardised `audio` and `video`, float32 [videos, segments, dim] each, and `good`, bool [videos,
segments], and gives logits [videos, classes]. A missing side is all zeros, which is what an average video has. All but
`CrossAttention` look at the mean of a video's good segments. `hidden` sets the width so that they have about as many
parameters as concatenation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heads.study.poolings import mean

HEADS = 4


class Single(nn.Module):
    """One side alone by a perceptron with one hidden layer: what the other side adds is measured against this."""

    def __init__(self, side: int, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.side = side
        self.layers = _perceptron(dims[side], classes, hidden, dropout)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.layers(mean((audio, video)[self.side], good))


class Concatenation(nn.Module):
    """Early fusion: both sides' features beside each other, a perceptron with one hidden layer."""

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = _perceptron(sum(dims), classes, hidden, dropout)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.layers(torch.cat([mean(audio, good), mean(video, good)], dim=1))


class Gated(nn.Module):
    """Gated multimodal unit: h = z ∘ tanh(W_a a) + (1 - z) ∘ tanh(W_v v), z = σ(W_z [a; v]).

    Arevalo et al. 2017 (arXiv 1702.01992), section 3.1.
    """

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        width = hidden // 2
        self.sides = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.gate = nn.Linear(sum(dims), width)
        self.leave = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        a, v = mean(audio, good), mean(video, good)
        z = self.gate(torch.cat([a, v], dim=1)).sigmoid()
        heard, seen = self.sides[0](a).tanh(), self.sides[1](v).tanh()
        return self.leave(z * heard + (1 - z) * seen)


class Bilinear(nn.Module):
    """Low-rank bilinear fusion: h = Σ_r (W_a^r [a; 1]) ∘ (W_v^r [v; 1]), a bilinear form of rank `RANK` in each h.

    Liu et al. 2018 (arXiv 1806.00064), equation 6. The appended 1 keeps what one side says alone.
    """

    RANK = 4

    def __init__(self, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.width = hidden // self.RANK
        sides = [nn.Linear(dim, self.RANK * self.width) for dim in dims]
        for side in sides:
            nn.init.ones_(side.bias)  # what the appended 1 is multiplied by: each side at first says itself
        self.sides = nn.ModuleList(sides)
        self.leave = nn.Sequential(nn.LayerNorm(self.width), nn.Dropout(dropout), nn.Linear(self.width, classes))

    def fused(self, audio: Tensor, video: Tensor) -> Tensor:
        """[videos, dim] of both sides → [videos, width]."""
        product = self.sides[0](audio) * self.sides[1](video)
        return product.unflatten(1, (self.RANK, self.width)).sum(1)

    def forward(self, audio: Tensor, video: Tensor, good: Tensor) -> Tensor:
        return self.leave(self.fused(mean(audio, good), mean(video, good)))


class CrossAttention(nn.Module):
    """Each side's segments ask the other side's: attention in both directions, residual, then the mean over segments.

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
        a, v = (enter(side) for enter, side in zip(self.enter, (audio, video), strict=True))
        found = []
        for asks, answers, number in ((a, v, 0), (v, a, 1)):
            query, key = self.norms[number](asks), self.norms[1 - number](answers)
            told, _ = self.attend[number](query, key, key, key_padding_mask=~good, need_weights=False)
            found.append(mean(asks + told, good))
        return self.leave(torch.cat(found, dim=1))


def _perceptron(dim: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


FUSIONS = ("audio", "video", "concatenation", "gated", "bilinear", "cross_attention", "cca")
"""In the order in which they are shown; `cca` is concatenation of canonical variates (heads/study/cca.py)."""
CLASSES: dict[str, type[nn.Module]] = {
    "concatenation": Concatenation,
    "gated": Gated,
    "bilinear": Bilinear,
    "cross_attention": CrossAttention,
    "cca": Concatenation,
}


def build(name: str, dims: tuple[int, int], classes: int, hidden: int, dropout: float) -> nn.Module:
    """The untrained fusion of this name, or one side alone, for features of these widths."""
    if name in ("audio", "video"):
        return Single(("audio", "video").index(name), dims, classes, hidden, dropout)
    return CLASSES[name](dims, classes, hidden, dropout)
