"""Exports that are one file: HDF5 and Parquet. Reads the cache; writes the file that it is given.

HDF5: a dataset a column; features are [videos, segments, dim]; `tags` is text with `|` between tags. Parquet: features
are fixed-size lists of segments · dim numbers, segment by segment; the shape is in the metadata of the column's field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exports.selection import Selection, as_text


def to_hdf5(path: Path, selection: Selection) -> None:
    """Write an HDF5 file; every chunk of features has a checksum (Fletcher-32)."""
    count = len(selection.rows)
    with h5py.File(path, "w") as file:
        for name in selection.backbones:
            shape = (count, *selection.shape(name))
            data = file.create_dataset(name, shape, np.float16, chunks=(1, *shape[1:]), fletcher32=True)
            about = selection.about(name)
            data.attrs.update({key: about[key] for key in ("key", "random_weights")})
        for part, labels, read in selection.blocks():
            for name, block in read.items():
                file[name][part] = block
            for name in labels.column_names:
                values = labels[name].to_pylist()
                column: Any = np.array(values, np.int64) if name == "row" else [as_text(value) for value in values]
                kind = np.dtype(np.int64) if name == "row" else h5py.string_dtype()
                file.require_dataset(name, (count,), kind)[part] = column


def to_parquet(path: Path, selection: Selection) -> None:
    """Write a Parquet file; not compressed, for there is little to gain."""
    fields = list(selection.labels.schema)
    for name in selection.backbones:
        segments, dim = selection.shape(name)
        about = {"shape": json.dumps([segments, dim]), "key": selection.features.key(name)}
        fields.append(pa.field(name, pa.list_(pa.float16(), segments * dim), metadata=about))
    schema = pa.schema(fields)
    with pq.ParquetWriter(path.absolute(), schema, compression="none", use_dictionary=False) as writer:
        for _, labels, read in selection.blocks():
            columns = labels.columns
            for block in read.values():
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block[0].size))
            writer.write_table(pa.table(columns, schema=schema))
