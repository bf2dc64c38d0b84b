"""Write a selection of the cache to one HDF5 or Parquet file, for programs that do not read Zarr.

    python -m pipeline.export RESULTS FILE.h5|FILE.parquet [--backbone NAME …] [--split train|validation|test] [--all]

Reads a finished cache; writes FILE, which must not exist yet, with the videos that have features of every chosen
backbone, in the order of their rows: the manifest's columns (`row` among them) and the features, float16.

HDF5: a dataset a column; features are [videos, segments, dim]; `tags` is text with `|` between tags. Parquet: features
are fixed-size lists of segments · dim numbers, segment by segment; the shape is in the metadata of the column's field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from config.cli import UserError, parser, progress, run
from config.files import replacing
from pipeline.features import Features, open_features

BLOCK = 1000
"""Videos in memory at a time, and a row group of the Parquet file."""


def blocks(
    features: Features, backbones: list[str], rows: np.ndarray
) -> Iterator[tuple[slice, pa.Table, dict[str, np.ndarray]]]:
    """Yield (slice of the selection, labels, {backbone: float16 [videos, segments, dim]}), BLOCK videos at a time."""
    labels = features.labels(rows)
    starts = range(0, len(rows), BLOCK)
    for start in progress(starts, len(starts), "export", "blocks"):
        part = slice(start, min(start + BLOCK, len(rows)))
        read = {name: features.numpy(name, rows[part]) for name in backbones}
        yield part, labels.slice(start, part.stop - start), read


def to_hdf5(path: Path, features: Features, backbones: list[str], rows: np.ndarray) -> None:
    """Write an HDF5 file; every chunk of features has a checksum (Fletcher-32)."""
    with h5py.File(path, "w") as file:
        for name in backbones:
            shape = (len(rows), features.segments, features.dim(name))
            data = file.create_dataset(name, shape, np.float16, chunks=(1, *shape[1:]), fletcher32=True)
            data.attrs.update({"key": features.key(name), "random_weights": features.random_weights(name)})
        for part, labels, read in blocks(features, backbones, rows):
            for name, block in read.items():
                file[name][part] = block
            for name in labels.column_names:
                values = labels[name].to_pylist()
                if name == "row":
                    column: Any = np.array(values, np.int64)
                else:
                    column = ["|".join(v) if isinstance(v, list) else v or "" for v in values]
                kind = np.dtype(np.int64) if name == "row" else h5py.string_dtype()
                file.require_dataset(name, (len(rows),), kind)[part] = column


def to_parquet(path: Path, features: Features, backbones: list[str], rows: np.ndarray) -> None:
    """Write a Parquet file; not compressed, for there is little to gain."""
    fields = list(features.labels(rows[:0]).schema)
    for name in backbones:
        shape = [features.segments, features.dim(name)]
        about = {"shape": json.dumps(shape), "key": features.key(name)}
        fields.append(pa.field(name, pa.list_(pa.float16(), shape[0] * shape[1]), metadata=about))
    schema = pa.schema(fields)
    with pq.ParquetWriter(path.absolute(), schema, compression="none", use_dictionary=False) as writer:
        for _, labels, read in blocks(features, backbones, rows):
            columns = labels.columns
            for block in read.values():
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block[0].size))
            writer.write_table(pa.table(columns, schema=schema))


WRITERS = {".h5": to_hdf5, ".hdf5": to_hdf5, ".parquet": to_parquet}


def export(features: Features, path: Path, backbones: list[str], split: Any = None, everything: bool = False) -> int:
    """Write the file; return the number of videos. `everything`: also videos without features, as NaN.

    UserError for an unknown ending or backbone, an empty selection, and a file that exists.
    """
    if path.suffix not in WRITERS:
        raise UserError(f"{path}: the ending says the format; there are {', '.join(WRITERS)}")
    for name in backbones:
        if name not in features.backbones:
            raise UserError(f"--backbone {name}: the cache has {features.backbones}")
    if path.exists():
        raise UserError(f"{path} exists; delete it, or choose another name")
    rows = features.rows(split, valid=() if everything else backbones)
    if not len(rows):
        raise UserError(f"{features.folder} has no video with features of {backbones} in the split '{split}'")
    with replacing(path) as temporary:
        WRITERS[path.suffix](temporary, features, backbones, rows)
    return len(rows)


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.export", config=False)
    p.add_argument("results", type=Path, metavar="RESULTS", help="the results folder")
    p.add_argument("file", type=Path, metavar="FILE", help="the file to write: .h5, .hdf5 or .parquet")
    p.add_argument("--backbone", nargs="+", metavar="NAME", help="which features (default: of every backbone)")
    p.add_argument("--split", choices=("train", "validation", "test"), help="videos of this split alone")
    p.add_argument("--all", action="store_true", help="videos without features too, as NaN")
    arguments = p.parse_args()
    features = open_features(arguments.results)
    count = export(features, arguments.file, arguments.backbone or features.backbones, arguments.split, arguments.all)
    print(f"wrote {count} videos to {arguments.file}")


if __name__ == "__main__":
    run(main)
