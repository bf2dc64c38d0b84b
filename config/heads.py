"""The configuration of the projection heads: an experiment is data, a few lines of YAML. Reads and writes nothing.

Every default is the paper's baseline (Veldkamp, Hendriksen, Szlávik, Keijser 2023, arXiv 2309.00347), so an experiment
names only what it changes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from config.section import Section

Activation = Literal["relu", "gelu", "silu", "tanh"]
Normalisation = Literal["batch", "layer", "none"]
Output = Literal["sigmoid", "linear"]
Loss = Literal["paper", "info_nce", "siglip"]
SegmentPolicy = Literal["one", "all", "mean"]
LOWEST_LEARNED = 0.01
"""A learned temperature stays at or above this: logits are never scaled by more than 100 (CLIP, arXiv 2103.00020)."""


class Layers(Section):
    """The layers of a projection head: hidden ones of dense, normalisation, activation, dropout, then a dense one."""

    hidden: list[int] = [512]
    """Widths of the hidden layers; with the last layer, one more projection layer than there are widths."""
    activation: Activation = "relu"
    """Of the hidden layers."""
    normalisation: Normalisation = "batch"
    """Of the hidden layers, before their activation."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Share of a hidden layer's outputs that is zeroed while training."""
    output: Output = "sigmoid"
    """Activation of the last layer, before L2 normalisation."""

    @field_validator("hidden")
    @classmethod
    def _widths(cls, hidden: list[int]) -> list[int]:
        if any(width < 1 for width in hidden):
            raise ValueError("every width must be at least 1")
        return hidden


class Side(Section):
    """What one side's head has of its own; what is not set here is as the experiment says."""

    identity: bool = False
    """No head at all: this side's features, L2-normalised, are its embeddings. `embedding` must be their number."""
    hidden: list[int] | None = None
    """This side's `hidden`."""
    activation: Activation | None = None
    """This side's `activation`."""
    normalisation: Normalisation | None = None
    """This side's `normalisation`."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """This side's `dropout`."""
    output: Output | None = None
    """This side's `output`."""

    @model_validator(mode="after")
    def _identity_has_no_layers(self) -> Side:
        own = sorted(name for name, value in self if name != "identity" and value is not None)
        if self.identity and own:
            raise ValueError(f"with `identity: true` there are no layers, so {', '.join(own)} would mean nothing")
        return self


class Autoencoder(Section):
    """How `initialisation: autoencoder` trains (heads/autoencoder.py)."""

    epochs: int = Field(10, ge=1)
    """Epochs of reconstructing the training features, before the contrastive training."""
    learning_rate: float = Field(0.001, gt=0)
    """Of Adam, constant."""


class Experiment(Layers):
    """Two projection heads and how they are fitted. The defaults are the paper's baseline."""

    embedding: int = Field(256, ge=2)
    """Width of the shared space."""
    audio: Side = Side()
    """What the audio side's head has of its own."""
    video: Side = Side()
    """What the video side's head has of its own."""
    loss: Loss = "info_nce"
    """`info_nce`: the standard one, as in the paper's published code; `paper`: the paper's equation, whose denominator
    leaves the true partner out; `siglip`: every pair a yes-or-no question (Zhai et al. 2023, arXiv 2303.15343)."""
    temperature: float = Field(1.0, gt=0)
    """Cosines are divided by it; where it is learned, it starts here."""
    learned_temperature: bool = False
    """Learn it with the weights, as a logarithm, never below 0.01."""
    bias: float = -10.0
    """Where the learned bias of `siglip` starts: a stranger is far likelier than a partner."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """`adamw` decouples the weight decay from the gradient; `adam` and `sgd` add it to the gradient."""
    learning_rate: float = Field(0.01, gt=0)
    """The highest one; `schedule` lowers it."""
    weight_decay: float = Field(0.0, ge=0)
    """Of weight matrices; biases, normalisations, temperature and the loss's bias have none."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of `sgd`."""
    schedule: Literal["exponential", "cosine", "constant"] = "exponential"
    """`exponential`: times `decay` after every epoch; `cosine`: half a cosine from the highest to zero, which it
    reaches after `max_epochs`."""
    decay: float = Field(0.95, gt=0, le=1)
    """The learning rate is multiplied by this after every epoch of an `exponential` schedule."""
    warmup: int = Field(0, ge=0)
    """Epochs in which the learning rate rises evenly, a step at a time, to where the schedule is."""
    batch: int = Field(1000, ge=2)
    """Pairs a batch, at most one segment of a video in each."""
    segment_policy: SegmentPolicy = "one"
    """What a video gives in an epoch: `one` of its segments at random (the paper's), `all` of them, each in another
    batch, or the `mean` of their features. Validation uses `all` unless it is `mean`."""
    initialisation: Literal["default", "autoencoder"] = "default"
    """`autoencoder`: each head is first the encoder of an autoencoder of its side's training features."""
    autoencoder: Autoencoder = Autoencoder()
    """How `initialisation: autoencoder` trains."""
    patience: int = Field(3, ge=1)
    """Stop after this many epochs without a lower validation loss."""
    max_epochs: int = Field(100, ge=1)
    """Stop after this many epochs at the latest."""

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if self.audio.identity and self.video.identity:
            raise ValueError("audio.identity and video.identity are both true: there is nothing to train")
        if self.learned_temperature and self.temperature < LOWEST_LEARNED:
            raise ValueError(
                f"temperature ({self.temperature}) is where the learned one starts, never below {LOWEST_LEARNED}"
            )
        if self.warmup >= self.max_epochs:
            raise ValueError(f"warmup ({self.warmup}) leaves nothing of max_epochs ({self.max_epochs})")
        # A key that the others leave without effect is a mistake. A resolved configuration holds every default.
        for key, works, condition in (
            ("decay", self.schedule == "exponential", "schedule: exponential"),
            ("momentum", self.optimiser == "sgd", "optimiser: sgd"),
            ("bias", self.loss == "siglip", "loss: siglip"),
            ("autoencoder", self.initialisation == "autoencoder", "initialisation: autoencoder"),
        ):
            if not works and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect without `{condition}`")
        return self

    def layers(self, side: Literal["audio", "video"]) -> Layers | None:
        """The layers of one side's head; None where that side has none."""
        own: Side = getattr(self, side)
        if own.identity:
            return None
        changed = {name: value for name, value in own if name in Layers.model_fields and value is not None}
        return Layers(**({name: getattr(self, name) for name in Layers.model_fields} | changed))

    @property
    def outputs(self) -> tuple[Output, Output]:
        """What each side's embeddings can be: with `sigmoid` no coordinate is negative."""
        audio, video = self.layers("audio"), self.layers("video")
        return (audio.output if audio else "linear"), (video.output if video else "linear")


class Heads(Section):
    """Projection heads fitted on the cached features."""

    audio: str = "musicnn"
    """Backbone on the audio side."""
    video: str = "r2plus1d"
    """Backbone on the video side."""
    experiments: dict[str, Experiment] = {"baseline": Experiment()}
    """What is trained and compared, by name."""
    seeds: list[int] = Field([0], min_length=1)
    """Every experiment is trained once with each of these; tables give means and intervals over them."""

    memory_gb: float | None = Field(None, gt=0)
    """Memory in 10^9 bytes (the GPU's, where there is one) that training may take. Features that do not fit are
    streamed from disk, window by window: the same pairs, in other batches. Default: what is available."""
    matmul: Literal["auto", "torch", "onednn", "tf32"] = "auto"
    """What multiplies matrices in training, in float32 all but the last: PyTorch's default (`torch`: MKL on a CPU),
    oneDNN (faster on CPUs that are not Intel's, where `auto` takes it), or a GPU's TF32, whose factors have 10 bits."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be different numbers, none below 0")
        return seeds
