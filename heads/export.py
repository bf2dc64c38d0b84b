"""Write an experiment's embeddings as a FAISS index, which finds the nearest embeddings of a query.

    python -m heads.export RESULTS audio.faiss --experiment baseline --modality audio
    python -m heads.export RESULTS segments.faiss --experiment baseline --modality video --level segment --split test

Reads the manifest and the embeddings (heads/embed.py) of the first of `heads.seeds`; writes FILE, which must not exist
yet: a flat index (exact search) of inner products of unit vectors, which are cosines, under ids: a video's `row` in the
manifest, or for segments row · segments + segment. Videos without an embedding are left out, and embeddings that are
zero, which have no direction. The lengths of embeddings with `normalise: false` are lost.

    index = faiss.read_index("audio.faiss")            # pip install faiss-cpu; not needed to write the file
    cosines, rows = index.search(queries, 10)          # queries: float32 [n, embedding], of unit length

Audio and video of one experiment share a space: search one modality's index with the other's embeddings.
Format: FAISS 1.15, faiss/impl/index_write.cpp (`IndexIDMap` of `IndexFlatIP`), little-endian (Douze et al. 2024,
"The Faiss library").
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from config.cli import UserError, parser, progress, results_folder, run
from config.files import replacing
from config.heads import MODALITIES
from config.model import read
from config.paths import Paths
from data.splits import SPLITS, Split
from heads.embed import embeddings_record, open_embeddings
from heads.features import FeatureArray
from heads.runs import runs
from pipeline.features import good_segments, open_features, segment_mean

BLOCK = 4096
"""Videos in memory at a time."""
log = logging.getLogger("export")
INNER_PRODUCT = 0


def vectors(source: FeatureArray, rows: np.ndarray, level: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids (int64 [n]) and unit vectors (float32 [n, embedding]) of a block of videos, by level."""
    segments = source.shape[1]
    for start in progress(range(0, len(rows), BLOCK), -(-len(rows) // BLOCK), "export", "blocks"):
        part = rows[start : start + BLOCK]
        block = source.read(part).astype(np.float32)
        good = good_segments(block) & block.any(axis=2)
        block[good] = _unit(block[good])
        if level == "segment":
            video, segment = np.nonzero(good)
            yield part[video] * segments + segment, block[good]
        else:
            some = good.any(axis=1)
            means = segment_mean(block[some], good[some])
            directed = means.any(axis=1)
            yield part[some][directed], _unit(means[directed])


def _unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def write_index(file: BinaryIO, width: int, blocks: Iterator[tuple[np.ndarray, np.ndarray]]) -> int:
    """Write an index of ids and float32 vectors [n, width], given block by block; return their number.

    The number stands before the vectors, so it is written again at the end: `file` must be seekable.
    """
    file.write(b"IxMp" + _header(width, 0) + b"IxFI" + _header(width, 0) + struct.pack("<Q", 0))
    ids, count = [], 0
    for numbers, block in blocks:
        file.write(np.ascontiguousarray(block, "<f4").tobytes())
        ids.append(numbers)
        count += len(numbers)
    file.write(struct.pack("<Q", count))
    for numbers in ids:
        file.write(numbers.astype("<i8").tobytes())
    file.seek(0)
    file.write(b"IxMp" + _header(width, count) + b"IxFI" + _header(width, count) + struct.pack("<Q", count * width))
    return count


def _header(width: int, count: int) -> bytes:
    """Return what every index begins with: width, number, two unused numbers, whether it is trained, metric."""
    return struct.pack("<iqqq?i", width, count, 1 << 20, 1 << 20, True, INNER_PRODUCT)


def export(results: Path, path: Path, experiment: str, modality: str, level: str, split: Split | None) -> int:
    """Write the index; return the number of its vectors.

    UserError if the embeddings are missing, of other cache keys or of other videos, for another ending, and for a
    `path` that exists.
    """
    if path.suffix != ".faiss":
        raise UserError(f"{path}: the name of an index ends in .faiss")
    if path.exists():
        raise UserError(f"{path} exists; delete it, or choose another name")
    config, features = read(Paths(results).config), open_features(results)
    training, sides = runs(config, experiment)[0], config.sides(experiment)
    embeddings_record(training, {backbone: features.key(backbone) for backbone in sides.backbones}, features.videos)
    source = open_embeddings(training, modality)
    backbones = sides.audio if modality == "audio" else sides.video
    rows = features.rows(split, valid=backbones)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        return write_index(file, source.shape[2], vectors(source, rows, level))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "heads.export", config=False)
    command_line.add_argument("results", type=results_folder, metavar="RESULTS", help="the results folder")
    command_line.add_argument("file", type=Path, metavar="FILE", help="the index to write, .faiss")
    command_line.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments")
    command_line.add_argument("--modality", required=True, choices=MODALITIES, help="whose embeddings")
    command_line.add_argument(
        "--level", choices=("video", "segment"), default="video", help="means of videos (default), or all"
    )
    command_line.add_argument("--split", choices=SPLITS, help="videos of this split alone")
    arguments = command_line.parse_args()
    count = export(
        arguments.results, arguments.file, arguments.experiment, arguments.modality, arguments.level, arguments.split
    )
    config, features = read(Paths(arguments.results).config), open_features(arguments.results)
    random = [name for name in config.sides(arguments.experiment).backbones if features.random_weights(name)]
    if random:
        log.warning("%s ran on RANDOM weights: what the index finds alike means little", ", ".join(random))
    if not all(config.experiment(arguments.experiment).unit):
        log.warning(
            "%s compares by dot products, and the index by cosines: its order is another one than the evaluation's",
            arguments.experiment,
        )
    print(f"wrote {count} vectors to {arguments.file}")


if __name__ == "__main__":
    run(main)
