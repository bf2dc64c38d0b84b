"""The projection heads: small networks that carry features into the shared space. Reads and writes nothing.

The layout is the paper's (Veldkamp, Hendriksen, Szlávik, Keijser 2023, arXiv 2309.00347): hidden layers of dense, batch
norm, ReLU and dropout, a last dense layer with a sigmoid (or nothing), then L2 normalisation.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from config.model import Experiment


class ProjectionHead(nn.Module):
    """Features [n, dim] in any float type → unit vectors [n, embedding] float32.

    With a sigmoid no coordinate is negative, so cosines between embeddings are in [0, 1]; without, in [-1, 1].
    """

    def __init__(
        self, dim: int, hidden: list[int], embedding: int, dropout: float, output: Literal["sigmoid", "linear"]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            dim = width
        layers.append(nn.Linear(dim, embedding))
        if output == "sigmoid":
            layers.append(nn.Sigmoid())
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        # The cache holds float16, in which a sum over 1,506 features would lose digits.
        return functional.normalize(self.layers(features.float()), dim=-1)


class TwoHeads(nn.Module):
    """One projection head a modality, sharing nothing but the space they map into."""

    def __init__(self, experiment: Experiment, audio_dim: int, video_dim: int) -> None:
        super().__init__()
        e = experiment
        self.audio = ProjectionHead(audio_dim, e.hidden, e.embedding, e.dropout, e.output)
        self.video = ProjectionHead(video_dim, e.hidden, e.embedding, e.dropout, e.output)

    def forward(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, audio_dim] and [n, video_dim] → two times unit vectors [n, embedding] float32."""
        return self.audio(audio), self.video(video)
