"""The configuration of the projection heads and of the experiments that train them. Reads and writes nothing.

Defaults are the paper's baseline (Veldkamp, Hendriksen, Szlávik, Keijser 2023, arXiv 2309.00347); an experiment names
only what it changes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from config.section import Section, Seed, Width, left_out

Activation = Literal["relu", "gelu", "silu", "tanh"]
Normalisation = Literal["batch", "batch_fixed", "layer", "none"]
Output = Literal["sigmoid", "linear"]
Loss = Literal["paper", "info_nce", "siglip"]
SegmentPolicy = Literal["one", "first", "all", "mean"]

Modality = Literal["audio", "video"]
MODALITIES: tuple[Modality, Modality] = ("audio", "video")

ALONE = "to extract one modality alone, name the same backbone for `heads.audio` and `heads.video`"
"""What to do with a collection that is not for heads; for messages."""
LEAST_VIDEOS = {"train": 10, "validation": 2, "test": 2}
"""Fewest videos of each split with features of both modalities that training and ranking need."""


def trainable(complete: dict[str, int]) -> bool:
    """Return whether these numbers of videos with both modalities, by split, are enough to train projection heads."""
    return all(complete[split] >= least for split, least in LEAST_VIDEOS.items())


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds must be different numbers")
    return seeds


Seeds = Annotated[list[Seed], AfterValidator(_distinct)]
LOWEST_LEARNED = 0.01
"""Lower bound of a learned temperature: cosines are multiplied by at most 100 (CLIP, arXiv 2103.00020)."""


class Sides(NamedTuple):
    """The backbones whose features are read for audio and for video; several of a modality are concatenated."""

    audio: tuple[str, ...]
    video: tuple[str, ...]

    @property
    def backbones(self) -> list[str]:
        """All of them, audio first, each once."""
        return list(dict.fromkeys(self.audio + self.video))

    @property
    def names(self) -> list[str]:
        """The two sides as text, such as `musicnn` and `clip+r2plus1d`."""
        return ["+".join(self.audio), "+".join(self.video)]


class Layers(Section):
    """Layers of a projection head: hidden ones (dense, normalisation, activation, dropout), then a dense output
    layer."""

    hidden: list[Width] = [512]
    """Widths (units) of the hidden layers, first to last; `[]` is a head with the output layer alone."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    normalisation: Normalisation = "batch"
    """Normalisation of the hidden layers, before the activation: `batch`, `layer` or none. `batch_fixed`: batch norm
    without a learned scale and shift, which the published code never trains."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Probability that an output of a hidden layer is zeroed in training."""
    output: Output = "sigmoid"
    """Activation of the output layer, before L2 normalisation."""


class ModalityHead(Section):
    """The backbones of one modality of an experiment, and overrides of its head settings. The name of a backbone, or a
    list of names, may stand in place of the section."""

    backbones: list[str] | None = Field(None, min_length=1)
    """Backbones whose features this experiment's head reads, names in `backbones`; several are standardised and
    concatenated. Default: `heads.audio` or `heads.video`."""
    identity: bool = False
    """Train no head for this modality: its embeddings are the L2-normalised features, so `embedding` must be their
    width."""
    normalise: bool = True
    """With `identity: true` only: L2-normalise the features. If not, embeddings keep their lengths and are compared by
    dot products instead of cosines, in the loss and in ranks, as in the published code."""
    hidden: list[Width] | None = None
    """`hidden` of this modality's head; default: the experiment's."""
    activation: Activation | None = None
    """`activation` of this modality's head; default: the experiment's."""
    normalisation: Normalisation | None = None
    """`normalisation` of this modality's head; default: the experiment's."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """`dropout` of this modality's head; default: the experiment's."""
    output: Output | None = None
    """`output` of this modality's head; default: the experiment's."""

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, raw: Any) -> Any:
        names = [raw] if isinstance(raw, str) else raw
        return {"backbones": names} if isinstance(names, list) else raw

    @model_validator(mode="after")
    def _distinct(self) -> ModalityHead:
        if self.backbones and len(set(self.backbones)) < len(self.backbones):
            raise ValueError(f"{', '.join(self.backbones)}: a backbone stands twice in the list")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return left_out(left_out(write(self), "backbones", None), "normalise", True)

    @model_validator(mode="after")
    def _identity_has_no_layers(self) -> ModalityHead:
        overrides = sorted(name for name, value in self if name in Layers.model_fields and value is not None)
        if self.identity and overrides:
            raise ValueError(f"with `identity: true` there are no layers, so {', '.join(overrides)} would mean nothing")
        if not self.normalise and not self.identity:
            raise ValueError("`normalise: false` needs `identity: true`: what a head returns is always normalised")
        return self


class Autoencoder(Section):
    """Pretraining of the heads with `initialisation: autoencoder` (heads/autoencoder.py)."""

    epochs: int = Field(10, ge=1)
    """Epochs of reconstructing the training features before contrastive training begins."""
    learning_rate: float = Field(0.001, gt=0)
    """Learning rate of Adam, constant."""


class Experiment(Layers):
    """A pair of projection heads and how it is trained. The defaults are the paper's baseline."""

    embedding: int = Field(256, ge=2, le=65_536)
    """Dimensions of the embedding space that both modalities share."""
    audio: ModalityHead = ModalityHead()
    """Backbones and overrides of the audio head."""
    video: ModalityHead = ModalityHead()
    """Backbones and overrides of the video head."""
    standardise: bool = False
    """Standardise the features before the heads: each feature minus its mean, divided by its standard deviation, both
    of the training split. Always on for a modality with several backbones."""
    loss: Loss = "info_nce"
    """Contrastive loss. `info_nce`: symmetric InfoNCE, as in the paper's published code; `paper`: the paper's equation,
    whose denominator leaves out the positive; `siglip`: sigmoid loss, each pair classified as positive or negative
    (Zhai et al. 2023, arXiv 2303.15343)."""
    temperature: float = Field(1.0, gt=0)
    """Temperature by which cosine similarities are divided; the initial value if it is learned."""
    learned_temperature: bool = False
    """Learn the temperature with the weights, in log space, bounded below by 0.01."""
    bias: float = -10.0
    """Initial value of the learned bias of `siglip`; negative, because negatives far outnumber positives."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """`adam` and `sgd` add the weight decay to the gradient; `adamw` applies it apart from the gradient."""
    learning_rate: float = Field(0.01, gt=0)
    """Peak learning rate, which `schedule` lowers."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of weight matrices; biases, normalisation layers, temperature and the loss's bias have none."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of `sgd`."""
    schedule: Literal["exponential", "cosine", "constant"] = "exponential"
    """Learning rate schedule. `exponential`: multiplied by `decay` after every epoch; `cosine`: half a cosine from the
    peak to zero at `max_epochs`; `constant`: the peak throughout."""
    decay: float = Field(0.95, gt=0, le=1)
    """Factor of the learning rate after every epoch of the `exponential` schedule."""
    warmup: int = Field(0, ge=0)
    """Epochs of linear warm-up, updated every step, from zero to the schedule's learning rate."""
    batch: int = Field(1000, ge=2)
    """Pairs per batch; at most one segment of each video is in a batch."""
    segment_policy: SegmentPolicy = "one"
    """Pairs that a video contributes in an epoch: `one` random segment (the paper's policy), the `first` that could be
    read (the published code's), `all` segments, each in a different batch, or the `mean` of the segments' features.
    Validation uses `all`, or `first` or `mean` if that is set."""
    shuffle: Literal["epoch", "once"] = "epoch"
    """`epoch`: segments and batches are drawn anew in every epoch; `once`: every epoch has those of the first one, in
    the same order, as in the published code."""
    repeat_step: bool = False
    """Take one more optimiser step with the last batch's gradient at the beginning of every epoch but the first, as the
    published code does."""
    initialisation: Literal["default", "autoencoder"] = "default"
    """`default`: PyTorch's random initialisation; `autoencoder`: each head is pretrained as the encoder of an
    autoencoder on its modality's training features."""
    autoencoder: Autoencoder = Autoencoder()
    """Pretraining with `initialisation: autoencoder`."""
    patience: int = Field(3, ge=1)
    """Early stopping: epochs without a lower validation loss after which training stops."""
    max_epochs: int = Field(100, ge=1)
    """Most epochs of a training."""

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
        if self.loss == "paper" and not all(self.unit):
            raise ValueError("`loss: paper` has no lowest value where `normalise: false` leaves lengths free")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        for key in ("standardise", "shuffle", "repeat_step"):
            written = left_out(written, key, type(self).model_fields[key].default)
        return written

    def backbones(self, modality: Modality) -> list[str] | None:
        """Return the experiment's own backbones of a modality; None: those of all experiments."""
        return (self.audio if modality == "audio" else self.video).backbones

    def standardises(self, modality: Modality) -> bool:
        """Return whether the features of a modality are standardised before its head."""
        return self.standardise or len(self.backbones(modality) or []) > 1

    def layers(self, modality: Modality) -> Layers | None:
        """Return the layers of a modality's head with its overrides; None if it has no head (`identity`)."""
        head = self.audio if modality == "audio" else self.video
        if head.identity:
            return None
        overrides = {name: value for name, value in head if name in Layers.model_fields and value is not None}
        return Layers(**({name: getattr(self, name) for name in Layers.model_fields} | overrides))

    @property
    def unit(self) -> tuple[bool, bool]:
        """Whether embeddings of audio and of video are unit vectors; others keep their lengths (`normalise: false`)."""
        return self.audio.normalise, self.video.normalise

    @property
    def outputs(self) -> tuple[Output, Output]:
        """Output activations of the audio and video heads; after `sigmoid` no coordinate of an embedding is
        negative."""
        audio, video = self.layers("audio"), self.layers("video")
        return (audio.output if audio else "linear"), (video.output if video else "linear")


class Heads(Section):
    """Projection heads trained on the cached features."""

    audio: str = "musicnn"
    """Backbone of the audio features, a name in `backbones`, of all experiments that name no other. To extract one
    modality alone (`snakemake extract`), give the same name here and in `video`."""
    video: str = "r2plus1d"
    """Backbone of the video features, a name in `backbones`, of all experiments that name no other."""
    experiments: dict[str, Experiment] = {"baseline": Experiment()}
    """Experiments by name: settings that are trained, evaluated and compared."""
    seeds: Seeds = Field([0], min_length=1)
    """Random seeds: each experiment is trained once per seed (a run); tables give means and intervals over the runs."""

    memory_gb: float | None = Field(None, gt=0)
    """Memory for training in GB (10^9 bytes), of the GPU if there is one; default: what is available. Features that do
    not fit are streamed from disk in windows, which yields the same pairs in different batches. Another value trains
    nothing again."""
    matmul: Literal["auto", "torch", "onednn", "tf32"] = "auto"
    """Matrix multiplication in training. `torch`: PyTorch's default in float32 (MKL on a CPU); `onednn`: oneDNN in
    float32; `tf32`: TensorFloat-32 of a GPU (10-bit mantissa); `auto`: oneDNN on CPUs other than Intel's, else
    `torch`."""

    def rounding(self) -> dict[str, str]:
        """Return {`matmul`: …}, on which trainings depend; nothing for the default, which was not noted at first."""
        return left_out({"matmul": self.matmul}, "matmul", "auto")
