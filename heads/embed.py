"""Carry every cached segment into the shared space of an experiment's trained heads.

Reads the cache and heads/EXPERIMENT/checkpoint.safetensors. Writes into heads/EXPERIMENT/ of the results folder:
  embeddings.zarr   a Zarr v3 group: audio and video [videos, segments, embedding] float16, unit vectors;
                    NaN where that modality's backbone could not read the video or the segment
  embeddings.json   last: counts, cache keys and a sha256 of both arrays' values
A block of videos is in memory at a time. Refuses heads that were trained on features of another cache key.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

from config.cli import UserError, parser, progress, run
from config.files import read_json, write_json
from config.model import Config, read
from config.paths import Paths
from heads.checkpoint import About, load_checkpoint
from heads.runs import Run, experiment_of
from pipeline.store import open_features, read_array

log = logging.getLogger("embed")
BLOCK = 256
"""Videos a block, and a chunk of the arrays: six segments of MusicNN features are 5 MB as float16, 9 MB as float32."""


def embed_block(head: nn.Module, features: np.ndarray, valid: np.ndarray, device: str) -> np.ndarray:
    """[videos, segments, dim] float16, [videos] bool → [videos, segments, embedding] float16, NaN where not valid."""
    known = torch.from_numpy(features[valid]).to(device)
    with torch.no_grad():
        out = head(known.flatten(0, 1)).unflatten(0, known.shape[:2]).cpu().numpy()
    block = np.full((len(features), *out.shape[1:]), np.nan, np.float16)
    block[valid] = out
    return block


def embed(config: Config, name: str) -> dict[str, Any]:
    """Write the embeddings of one experiment; returns the record."""
    experiment_of(config, name)
    paths = Paths(Path(config.results))
    view = open_features(paths)
    checkpoint = paths.heads(name) / "checkpoint.safetensors"
    heads, about = load_checkpoint(checkpoint)
    keys = {backbone: view.key(backbone) for backbone in (config.heads.audio, config.heads.video)}
    check_keys(checkpoint, about, keys)
    folder, record = paths.heads(name) / "embeddings.zarr", paths.heads(name) / "embeddings.json"
    # The record goes first and comes last: where it stands, the arrays beside it are whole.
    record.unlink(missing_ok=True)
    wip = folder.with_name("embeddings.zarr.wip")
    shutil.rmtree(wip, ignore_errors=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    group, counts, digest = zarr.create_group(wip, zarr_format=3), {}, hashlib.sha256()
    for side, backbone, head in (("audio", about.audio, heads.audio), ("video", about.video, heads.video)):
        source, valid = read_array(paths, backbone), view.valid(backbone)
        head.to(device)
        shape = (len(valid), view.segments, about.experiment["embedding"])
        array = group.create_array(
            side, shape=shape, dtype=np.float16, chunks=(min(BLOCK, len(valid)), *shape[1:]), fill_value=np.nan
        )
        starts = range(0, len(valid), BLOCK)
        for at in progress(starts, len(starts), f"embed {side}", "blocks"):
            part = slice(at, at + BLOCK)
            block = embed_block(head, np.asarray(source[part]), valid[part], device)
            array[part] = block
            digest.update(block.tobytes())
        counts[side] = int(valid.sum())
    facts: dict[str, Any] = {"keys": about.keys, "random_weights": about.random_weights}
    group.attrs.update({**facts, "experiment": name, "audio": about.audio, "video": about.video})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(wip, folder)
    written = {"experiment": name, "videos": shape[0], "segments": shape[1], "embedding": shape[2]}
    result = {**written, "valid": counts, **facts, "epoch": about.epoch, "digest": digest.hexdigest()}
    write_json(record, result)
    return result


def check_keys(what: Path, about: About, keys: dict[str, str]) -> None:
    """UserError unless the heads were trained on the features, and for the sides, that the run has now."""
    if about.keys != keys:
        raise UserError(
            f"{what} was trained on features of the cache keys {_short(about.keys)}, the cache has {_short(keys)}: "
            "the features were computed anew with other weights, segments or preprocessing. Train again: "
            "`snakemake train …`."
        )


def _short(keys: dict[str, str]) -> str:
    return ", ".join(f"{name} {key[:8]}" for name, key in keys.items())


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of chosen videos: `audio` and `video` float16 [videos, segments, embedding], and the record."""

    audio: np.ndarray
    video: np.ndarray
    record: dict[str, Any]


def load_embeddings(run: Run, rows: np.ndarray, keys: dict[str, str]) -> Embeddings:
    """One seed's embeddings of the manifest's `rows` (int64, ascending). UserError if missing or of other keys."""
    path = run.folder / "embeddings.json"
    record = read_json(path)
    if record is None:
        raise UserError(f"{path} does not exist; run `snakemake train …`")
    if record["keys"] != keys:
        raise UserError(
            f"{path}: the embeddings are of the cache keys {_short(record['keys'])}, the cache has {_short(keys)}. "
            "Train again: `snakemake train …`."
        )
    group = zarr.open_group(run.folder / "embeddings.zarr", mode="r", zarr_format=3)
    audio, video = (_rows(group[side], rows) for side in ("audio", "video"))
    return Embeddings(audio, video, record)


def _rows(array: Any, rows: np.ndarray) -> np.ndarray:
    return np.asarray(array.oindex[rows])


def main() -> None:
    p = parser(__doc__, "heads.embed")
    p.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments to embed with")
    p.add_argument("--threads", type=int, default=1, metavar="N", help="cores to use (default 1)")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    result = embed(read(args.config), args.experiment)
    log.info("%s: %d videos, %s with sound and picture", result["experiment"], result["videos"], result["valid"])


if __name__ == "__main__":
    run(main)
