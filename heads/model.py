"""The projection heads: small networks that map features into the shared space. Reads and writes nothing.

An experiment's configuration says what they consist of. Its default is the paper's layout (Veldkamp, Hendriksen,
Szlávik, Keijser 2023, arXiv 2309.00347): hidden layers of dense, batch norm, ReLU and dropout, a last dense layer with
a sigmoid, then L2 normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from config.cli import UserError
from config.heads import Experiment, Layers, Modality
from heads.standardise import Scaling

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "batch_fixed": partial(nn.BatchNorm1d, affine=False),
    "layer": nn.LayerNorm,
}


class ProjectionHead(nn.Module):
    """Map features [n, dim] of any float type to unit vectors [n, embedding] float32.

    With a sigmoid no coordinate is negative, so cosines between embeddings are in [0, 1]; without, in [-1, 1].
    """

    def __init__(self, dim: int, layers: Layers, embedding: int, standardise: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.scaling = Scaling(dim) if standardise else None
        parts: list[nn.Module] = []
        for width in layers.hidden:
            parts.append(nn.Linear(dim, width))
            if layers.normalisation != "none":
                parts.append(NORMALISATIONS[layers.normalisation](width))
            parts.append(ACTIVATIONS[layers.activation]())
            if layers.dropout:
                parts.append(nn.Dropout(layers.dropout))
            dim = width
        parts.append(nn.Linear(dim, embedding))
        if layers.output == "sigmoid":
            parts.append(nn.Sigmoid())
        self.layers = nn.Sequential(*parts)

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(self.layers(self.inputs(features)), dim=-1)

    def inputs(self, features: Tensor) -> Tensor:
        """Return what the first layer gets, float32 [n, dim]: the features, standardised where the experiment says so.

        The cache holds float16, in which a sum over 1,506 features would lose digits.
        """
        return features.float() if self.scaling is None else self.scaling(features)


class NoHead(nn.Module):
    """Normalise features [n, dim] of any float type to unit vectors [n, dim] float32; with `normalise` false, leave
    their lengths as they are."""

    def __init__(self, dim: int, standardise: bool = False, normalise: bool = True) -> None:
        super().__init__()
        self.scaling = Scaling(dim) if standardise else None
        self.normalise = normalise

    def forward(self, features: Tensor) -> Tensor:
        vectors = features.float() if self.scaling is None else self.scaling(features)
        return functional.normalize(vectors, dim=-1) if self.normalise else vectors


class TwoHeads(nn.Module):
    """One projection head a modality, `audio` and `video`, which share only the space they map into."""

    def __init__(self, audio: ProjectionHead | NoHead, video: ProjectionHead | NoHead) -> None:
        super().__init__()
        self.audio, self.video = audio, video

    def forward(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """Map features [n, audio_dim] and [n, video_dim] to embeddings float32 [n, embedding], one tensor each.

        They are unit vectors, but for a modality with `normalise: false`.
        """
        return self.audio(audio), self.video(video)


def build(experiment: Experiment, audio_dim: int, video_dim: int) -> TwoHeads:
    """Return the untrained heads of an experiment for features of these widths.

    Raises UserError where the features of a modality without a head are not as wide as the shared space.
    """

    def head(name: Modality, dim: int) -> ProjectionHead | NoHead:
        layers = experiment.layers(name)
        if layers is not None:
            return ProjectionHead(dim, layers, experiment.embedding, experiment.standardises(name))
        if dim != experiment.embedding:
            raise UserError(
                f"{name}.identity makes the {dim} {name} features the embeddings, but the experiment's "
                f"embedding is {experiment.embedding}: set `embedding: {dim}`"
            )
        normalise = (experiment.audio if name == "audio" else experiment.video).normalise
        return NoHead(dim, experiment.standardises(name), normalise)

    return TwoHeads(head("audio", audio_dim), head("video", video_dim))
