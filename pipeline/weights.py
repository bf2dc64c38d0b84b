"""Fetch the weights of one backbone and convert them to safetensors. Reads the configuration and their source;
writes RESULTS/weights/BACKBONE.safetensors and, last, RESULTS/weights/BACKBONE.json: their source and digest.

Where they come from is `backbones.BACKBONE.weights`: a name such as `wheel` (musicnn), `kinetics400` (r2plus1d) or
`random`, or the path of a local file. A path has a `/` or a `.` in it, a name has neither. If the weights cannot be
had this stops with the reason; it never takes others instead.

example: python -m pipeline.weights --config results/demo/config.json --backbone musicnn
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import Config, read
from config.place import is_path
from pipeline.backbones.base import WeightsSource
from pipeline.backbones.chosen import chosen

log = logging.getLogger("weights")
HEADER = "provenance"
"""Key of the safetensors header that holds the record, so that a copied file still knows what it is."""


def prepare(config: Config, backbone: str) -> dict[str, Any]:
    """Make the weights file and the record of one backbone of the configuration; return the record.

    The record: `backbone`; `weights`, the configured name, or null for a local file; `source`, in words; `sha256`, of
    the tensors (`digest`); `random`; `seed` where they are random; `architecture`, the options that other weights
    belong to; and `description`, what only they can tell (`Kind.description`), for kinds that have it. What is already
    there is kept if it is what the configuration asks for; otherwise the old record is deleted first, so that it never
    stands beside new weights.
    Raise UserError if the weights cannot be had or are not what they should be.
    """
    if backbone not in config.backbones:
        raise UserError(f"--backbone {backbone}: the configuration has only backbones {sorted(config.backbones)}")
    settings, paths = config.backbones[backbone], config.paths
    network = chosen(config, backbone)
    kind = network.load_kind()
    source = WeightsSource(settings.weights, settings.seed, network.options, f"{network.key}.weights")
    target = paths.weights(backbone)
    target.parent.mkdir(parents=True, exist_ok=True)
    architecture = kind.architecture(network.options)
    record = _kept(target, source, architecture)
    if record is None:
        paths.weights_record(backbone).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
            tensors, words = kind.fetch(source, Path(folder))
        record = _record(backbone, source, architecture, words, tensors)
        description = kind.description(tensors, source)
        if description is not None:
            record["description"] = description
        _write(target, tensors, record)
    if record["random"]:
        log.warning("%s has RANDOM weights: %s. Its features are a baseline, no more", backbone, record["source"])
    else:
        log.info("%s: %s, sha256 %s", backbone, record["source"], record["sha256"])
    write_json(paths.weights_record(backbone), record)
    return record


def digest(tensors: dict[str, np.ndarray]) -> str:
    """Return the sha256 (hex) over the tensors' names, dtypes, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        total.update(json.dumps([name, little.dtype.str, list(array.shape)]).encode())
        total.update(little.tobytes())
    return total.hexdigest()


def local(source: str, key: str, kinds: str) -> Path | None:
    """Return `source` as a path, or None if it is a name. Raise UserError if there is no such file or folder."""
    if not is_path(source):
        return None
    path = Path(source)
    if not path.exists() and not Path(f"{path}.index").exists():
        raise UserError(f"{key}: there is no file '{source}'. It should be {kinds}.")
    return path


def unknown_source(key: str, source: str, names: Iterable[str], kinds: str) -> UserError:
    """Return the error for a name that the backbone does not know."""
    return UserError(
        f"{key}: '{source}' is not one of {', '.join(names)}. "
        f"A local file ({kinds}) needs a path with a `/` in it, such as ./{source}."
    )


def unavailable(key: str, source: str, reason: str, kinds: str) -> UserError:
    """Return the error for weights that cannot be fetched, with the two ways out."""
    return UserError(
        f"{key}: the weights '{source}' cannot be had: {reason}\n"
        f"Either give the path of a local file ({kinds}) in {key},\n"
        f"or set {key}: random, and every output will say that the weights are random."
    )


def refuse_in_a_job(key: str, source: str) -> None:
    """Raise UserError inside a job of a scheduler: its node may have no network, and would wait in vain."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None:
        raise UserError(
            f"{key}: the weights '{source}' would have to be downloaded, which is not tried inside a job (Slurm's "
            f"{job}), because compute nodes seldom have a network.\nRun this first on a login node, with your own "
            "configuration, and then the same command as now:\n"
            "    snakemake --cores 1 --until weights --configfile …\n"
            f"or give the path of a local file in {key}."
        )


def read_safetensors(path: Path, key: str) -> dict[str, np.ndarray]:
    """Read the tensors of a local safetensors file. Raise UserError if it is damaged or has unknown types."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} cannot be read as safetensors: {error}") from None


def check_tensors(
    tensors: dict[str, np.ndarray],
    expected: dict[str, tuple[int, ...]],
    key: str,
    where: str,
    network: str = "this network",
) -> dict[str, np.ndarray]:
    """Return `tensors` if they are the expected ones, float32 and finite. Raise UserError for the first that is not.

    `where` they come from, and the `network` that they should be of, for messages.
    """
    for name, shape in expected.items():
        if name not in tensors:
            raise UserError(f"{key}: {where} has no tensor '{name}'; it is not of {network}")
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise UserError(
                f"{key}: tensor '{name}' of {where} is {tensor.dtype} {list(tensor.shape)}, not float32 {list(shape)}"
                + ("" if network == "this network" else f"; it is not of {network}")
            )
        if not np.isfinite(tensor).all():
            raise UserError(f"{key}: tensor '{name}' of {where} has values that are not finite")
    surplus = sorted(set(tensors) - set(expected))
    if surplus:
        raise UserError(f"{key}: {where} has a tensor '{surplus[0]}' that {network} does not have")
    return tensors


def _record(
    backbone: str, source: WeightsSource, architecture: dict[str, Any], words: str, tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "backbone": backbone,
        "weights": None if local(source.name, "", "") else source.name,
        "source": words,
        "sha256": digest(tensors),
        "random": source.name == "random",
    }
    if record["random"]:
        record["seed"] = source.seed
    if architecture:
        record["architecture"] = architecture
    # Random weights stay random when their file is copied and given as a local path.
    origin = _provenance(Path(source.name)) if source.name.endswith(".safetensors") else None
    if origin:
        record["source"] += f" ({origin['source']})"
        record |= {key: origin[key] for key in ("random", "seed") if key in origin}
    return record


def _provenance(path: Path) -> dict[str, Any] | None:
    """Return the record in a safetensors file's header, if `prepare` wrote the file."""
    try:
        with safe_open(path, "numpy") as file:
            record = json.loads((file.metadata() or {})[HEADER])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("source"), str) and record.get("random") in (True, False)
    return record if known else None


def _kept(path: Path, source: WeightsSource, architecture: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of the weights file if it is intact and the configured one; None otherwise.

    A local file is always read again, for it may have changed; a name always means the same weights.
    """
    record = _provenance(path)
    if record is None or record.get("weights") != source.name or record.get("seed", source.seed) != source.seed:
        return None
    if record.get("architecture", {}) != architecture:
        return None
    try:
        return record if digest(load_file(path)) == record.get("sha256") else None
    except (OSError, SafetensorError):
        return None


def _write(path: Path, tensors: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path) as temporary:
        # Not safetensors' own save_file: the file it makes is readable by its owner only, whatever the umask says.
        temporary.write_bytes(save(contiguous, metadata={HEADER: json.dumps(record)}))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.weights")
    command_line.add_argument("--backbone", required=True, metavar="NAME", help="a backbone of the configuration")
    arguments = command_line.parse_args()
    prepare(read(arguments.config), arguments.backbone)


if __name__ == "__main__":
    run(main)
