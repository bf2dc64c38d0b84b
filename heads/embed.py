"""Carry every cached segment into the shared space of an experiment's trained heads, those of every seed.

Reads the cache, checking checksums and once for all seeds, and checkpoint.safetensors of each. Writes into each seed's
folder (heads/runs.py):
  embeddings.zarr   a Zarr v3 group: audio and video [videos, segments, embedding] float16, unit vectors (but for a
                    modality with `normalise: false`, whose features stay as they are);
                    NaN where that modality's backbone could not read the video or the segment; not compressed, a
                    checksum in every chunk, as in the cache
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
from zarr.codecs import Crc32cCodec

from config.cli import UserError, experiment_parser, progress, run
from config.files import read_json, write_json
from config.heads import MODALITIES
from config.model import Config, read
from heads.checkpoint import About, load_checkpoint
from heads.features import FeatureArray, PairedFeatures
from heads.kernels import kernels
from heads.model import TwoHeads
from heads.runs import Run, runs
from pipeline.features import Features, open_features
from pipeline.shards import Shards

log = logging.getLogger("embed")
BLOCK = 256
"""Videos a block, and a chunk of the arrays: six segments of MusicNN features are 5 MB as float16, 9 MB as float32."""


def embed_block(head: nn.Module, features: np.ndarray, valid: np.ndarray, device: str) -> np.ndarray:
    """Embed features float16 [videos, segments, dim]: float16 [videos, segments, embedding], NaN where not `valid`.

    `valid` is bool [videos].
    """
    valid_features = torch.from_numpy(features[valid]).to(device)
    with torch.no_grad():
        out = head(valid_features.flatten(0, 1)).unflatten(0, valid_features.shape[:2]).cpu().numpy()
    block = np.full((len(features), *out.shape[1:]), np.nan, np.float16)
    block[valid] = out
    return block


def embed_split(heads: TwoHeads, features: PairedFeatures, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Embed a split in memory: audio and video, float16 [videos, segments, embedding] each, in the order of its rows.

    A segment that lacks one modality (`decoding.partial`) is NaN in both.
    """
    chosen, blocks = features.splits[split], []
    for head, array in zip((heads.audio, heads.video), features.arrays, strict=True):
        block = embed_block(head, array.read(chosen.rows), np.ones(len(chosen.rows), bool), "cpu")
        block[~chosen.good] = np.nan
        blocks.append(block)
    return blocks[0], blocks[1]


def embed(config: Config, name: str) -> list[dict[str, Any]]:
    """Write the embeddings of every seed of one experiment; return their records."""
    view = open_features(config.paths, torch.get_num_threads())
    sides = config.sides(name)
    keys = {backbone: view.key(backbone) for backbone in sides.backbones}
    writers = [Writer(run, keys, view.videos, view.segments) for run in runs(config, name)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with kernels(config.heads.matmul, device):
        for modality, backbones in (("audio", sides.audio), ("video", sides.video)):
            _embed_modality(view, modality, backbones, writers, device)
    return [writer.finish() for writer in writers]


def _embed_modality(
    view: Features, modality: str, backbones: tuple[str, ...], writers: list[Writer], device: str
) -> None:
    """Write one modality of every seed's embeddings, a block of videos at a time."""
    valid = view.valid(*backbones)
    for writer in writers:
        writer.begin(modality, int(valid.sum()), device)
    starts = range(0, len(valid), BLOCK)
    for start in progress(starts, len(starts), f"embed {modality}", "blocks"):
        part = slice(start, start + BLOCK)
        features = view.joined(backbones, part)
        for writer in writers:
            writer.write(modality, part, features, valid[part], device)


class Writer:
    """Writer of one seed's embeddings. Raises UserError if its heads are missing or of other cache keys."""

    def __init__(self, run: Run, keys: dict[str, str], videos: int, segments: int) -> None:
        checkpoint = run.folder / "checkpoint.safetensors"
        self.heads, self.about = load_checkpoint(checkpoint)
        check_keys(checkpoint, self.about, keys)
        with torch.no_grad():
            example, _ = self.heads(torch.zeros(1, self.about.audio_dim), torch.zeros(1, self.about.video_dim))
        self.run, self.shape = run, (videos, segments, example.shape[1])
        self.folder, self.record = run.folder / "embeddings.zarr", run.folder / "embeddings.json"
        # The record goes first and comes last: where it stands, the arrays beside it are whole.
        self.record.unlink(missing_ok=True)
        self.wip = run.folder / "embeddings.zarr.wip"
        shutil.rmtree(self.wip, ignore_errors=True)
        self.group = zarr.create_group(self.wip, zarr_format=3)
        self.arrays: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.digest = hashlib.sha256()

    def begin(self, modality: str, valid: int, device: str) -> None:
        """Create the array of a modality, of which `valid` videos have features."""
        getattr(self.heads, modality).to(device)
        chunks = (min(BLOCK, self.shape[0]), *self.shape[1:])
        self.arrays[modality] = self.group.create_array(
            modality,
            shape=self.shape,
            dtype=np.float16,
            chunks=chunks,
            # Unit vectors hardly compress, and a search over all of them reads at the speed of the files.
            compressors=[Crc32cCodec()],
            filters=None,
            fill_value=np.nan,
            # A missing file then always means that something is lost.
            config={"write_empty_chunks": True},
        )
        self.counts[modality] = valid

    def write(self, modality: str, part: slice, features: np.ndarray, valid: np.ndarray, device: str) -> None:
        """Embed a block of videos: features float16 [videos, segments, dim], valid bool [videos]."""
        block = embed_block(getattr(self.heads, modality), features, valid, device)
        self.arrays[modality][part] = block
        self.digest.update(block.tobytes())

    def finish(self) -> dict[str, Any]:
        """Put the arrays in place, then write and return the record."""
        about = self.about
        facts: dict[str, Any] = {"keys": about.keys, "random_weights": about.random_weights}
        named: dict[str, Any] = {"experiment": self.run.experiment, "seed": self.run.seed}
        self.group.attrs.update({**facts, **named, "audio": about.audio, "video": about.video})
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.wip, self.folder)
        videos, segments, embedding = self.shape
        result = {
            **named,
            **{"videos": videos, "segments": segments, "embedding": embedding, "valid": self.counts},
            **facts,
            **{"epoch": about.epoch, "digest": self.digest.hexdigest()},
        }
        write_json(self.record, result)
        return result


def check_keys(path: Path, about: About, keys: dict[str, str]) -> None:
    """Raise UserError unless the checkpoint at `path` was trained on the backbones and cache keys of `keys`."""
    if about.keys != keys:
        raise UserError(
            f"{path} was trained on features of the cache keys {_short(about.keys)}, the cache has {_short(keys)}: "
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


def embeddings_record(run: Run, keys: dict[str, str], videos: int | None = None) -> dict[str, Any]:
    """Return the record of one seed's embeddings.

    Raises UserError if it is missing, of another experiment or seed, of other cache keys than `keys` or, where it is
    given, of another number of `videos`.
    """
    path = run.folder / "embeddings.json"
    record: dict[str, Any] | None = read_json(path)
    if record is None:
        raise UserError(f"{path} does not exist; run `snakemake train …`")
    if record["keys"] != keys:
        raise UserError(
            f"{path}: the embeddings are of the cache keys {_short(record['keys'])}, the cache has {_short(keys)}. "
            "Train again: `snakemake train …`."
        )
    # What is not in a record cannot differ: earlier versions wrote less.
    experiment, seed = record.get("experiment", run.experiment), record.get("seed", run.seed)
    if (experiment, seed) != (run.experiment, run.seed):
        raise UserError(
            f"{path} is of the experiment '{experiment}' with seed {seed}, not of '{run.experiment}' with seed "
            f"{run.seed}; run `snakemake embeddings …`"
        )
    if videos is not None and record["videos"] != videos:
        raise UserError(f"{path} is of {record['videos']} videos, the cache has {videos}; run `snakemake embeddings …`")
    return record


def load_embeddings(run: Run, rows: np.ndarray, keys: dict[str, str]) -> Embeddings:
    """Read one seed's embeddings of `rows` (int64, ascending). Raises UserError if missing or of other cache keys."""
    record = embeddings_record(run, keys)
    group = zarr.open_group(run.folder / "embeddings.zarr", mode="r", zarr_format=3)
    audio, video = (_rows(group[modality], rows) for modality in MODALITIES)
    return Embeddings(audio, video, record)


def _rows(array: Any, rows: np.ndarray) -> np.ndarray:
    return np.asarray(array.oindex[rows])


class EmbeddingShards(Shards):
    """One modality's embeddings on disk, a chunk a file, read with checksums."""

    def _damage(self, shard: int, what: str) -> str:
        record = self.folder.parents[1] / "embeddings.json"
        return f"{self.path(shard)} {what}. Delete {record} and run `snakemake embeddings …`, which embeds again."


@dataclass(frozen=True)
class Compressed:
    """One modality's embeddings as earlier versions wrote them: compressed, so that only Zarr itself reads them."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, embedding."""
        return tuple(self.array.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.array[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the videos `rows` (int64, in any order), float16 [videos, segments, embedding]."""
        return _rows(self.array, rows)


def open_embeddings(run: Run, modality: str) -> FeatureArray:
    """Open one modality of one seed's embeddings to be read in parts. `load_embeddings` checks what they are of."""
    folder = run.folder / "embeddings.zarr" / modality
    about = read_json(folder / "zarr.json")
    if about is None:
        raise UserError(f"{folder} does not exist; run `snakemake embeddings …`")
    if [codec["name"] for codec in about["codecs"]] == ["bytes", "crc32c"]:
        return EmbeddingShards.open(folder)
    return Compressed(zarr.open_array(folder, mode="r", zarr_format=3))


def main() -> None:
    """Run the command line."""
    arguments = experiment_parser(__doc__, "heads.embed", several=True).parse_args()
    config = read(arguments.config)
    torch.set_num_threads(arguments.threads)
    for name in arguments.experiment or config.heads.experiments:
        for result in embed(config, name):
            log.info("%s, seed %d: valid %s of %d videos", name, result["seed"], result["valid"], result["videos"])


if __name__ == "__main__":
    run(main)
