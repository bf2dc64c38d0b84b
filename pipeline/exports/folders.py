"""Exports that are a folder of files. Reads the cache; writes into the folder that it is given, which is empty.

npy: `<backbone>.npy`, float16 [videos, segments, dim], and `rows.csv`, the manifest's columns in the same order.
webdataset: tar files `<split>-000000.tar` with `<id>.<backbone>.npy`, float16 [segments, dim], and `<id>.json`, the
manifest's columns, side by side (Aizman et al. 2019, IEEE Big Data, "High performance I/O for large scale deep
learning"). What is not a letter, a digit, `-` or `_` of an id is written as `%` and its code, as in URLs: WebDataset
ends a name at its first dot. hf: `data/<split>-00000-of-00001.parquet` and README.md, which `datasets.load_dataset`
opens by the folder's name; features are lists of `segments` lists of `dim` numbers.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exports.selection import Selection, as_text

TAR_VIDEOS, PARQUET_VIDEOS = 1000, 10_000
"""Videos a tar file and a Parquet file: with the default backbones 24 and 240 MB."""


def to_npy(folder: Path, selection: Selection) -> None:
    """Write one array a backbone, and the labels."""
    with ExitStack() as stack:
        arrays = {}
        for name in selection.backbones:
            # Written, not mapped: mapped pages would count as memory of this process.
            arrays[name] = stack.enter_context(open(folder / f"{name}.npy", "wb"))
            shape = (len(selection.rows), *selection.shape(name))
            np.lib.format.write_array_header_1_0(arrays[name], {"descr": "<f2", "fortran_order": False, "shape": shape})
        writer = csv.writer(stack.enter_context(open(folder / "rows.csv", "w", newline="", encoding="utf-8")))
        writer.writerow(selection.labels.column_names)
        for _, labels, read in selection.blocks():
            for name, block in read.items():
                arrays[name].write(block.astype("<f2", copy=False).tobytes())
            writer.writerows(
                zip(*([as_text(value) for value in column.to_pylist()] for column in labels.columns), strict=True)
            )


def sample_key(video_id: str) -> str:
    """Return a video's name in a tar file, different for every id."""
    return quote(video_id, safe="").replace(".", "%2E").replace("~", "%7E")


def to_webdataset(folder: Path, selection: Selection) -> None:
    """Write tar files of TAR_VIDEOS videos. Equal features give equal bytes: there is no clock in them."""
    for split, part in selection.by_split().items():
        tar, number = None, 0
        try:
            for labels, features in _videos(part):
                if number % TAR_VIDEOS == 0:
                    if tar is not None:
                        tar.close()
                    path = folder / f"{split}-{number // TAR_VIDEOS:06d}.tar"
                    tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
                assert tar is not None
                key = sample_key(str(labels["video_id"]))
                for name, array in features.items():
                    data = io.BytesIO()
                    np.save(data, array, allow_pickle=False)
                    _add(tar, f"{key}.{name}.npy", data.getvalue())
                _add(tar, f"{key}.json", json.dumps(labels, ensure_ascii=False).encode("utf-8", "surrogatepass"))
                number += 1
        finally:
            if tar is not None:
                tar.close()


def _videos(selection: Selection) -> Iterator[tuple[dict[str, object], dict[str, np.ndarray]]]:
    """Yield each video's labels and features, float16 [segments, dim]."""
    for _, labels, read in selection.blocks():
        for i, line in enumerate(labels.to_pylist()):
            yield line, {name: block[i] for name, block in read.items()}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


HF_PAGE = """---
configs:
- config_name: default
  data_files:
{files}---

Features of {count} music videos from frozen networks. Each row is a video. `croissant.json` has the networks and their
weights.{random}

```python
from datasets import load_dataset

dataset = load_dataset("{folder}").with_format("numpy")
dataset["{split}"][0]["{backbone}"]  # [{segments}, {dim}], stored as float16
```
"""


def to_hf(folder: Path, selection: Selection) -> None:
    """Write Parquet files of PARQUET_VIDEOS videos, and the page that names the splits."""
    fields = list(selection.labels.schema)
    for name in selection.backbones:
        segments, dim = selection.shape(name)
        about = {"key": selection.features.key(name)}
        fields.append(pa.field(name, pa.list_(pa.list_(pa.float16(), dim), segments), metadata=about))
    schema = pa.schema(fields)
    (folder / "data").mkdir()
    splits = selection.by_split()
    for split, part in splits.items():
        starts = range(0, len(part.rows), PARQUET_VIDEOS)
        for number, start in enumerate(starts):
            rows = part.rows[start : start + PARQUET_VIDEOS]
            path = folder / "data" / f"{split}-{number:05d}-of-{len(starts):05d}.parquet"
            with pq.ParquetWriter(path.absolute(), schema, compression="none", use_dictionary=False) as writer:
                for _, labels, read in replace(part, rows=rows).blocks():
                    columns = labels.columns
                    for block in read.values():
                        flat = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[2])
                        columns.append(pa.FixedSizeListArray.from_arrays(flat, block.shape[1]))
                    writer.write_table(pa.table(columns, schema=schema))
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    name = selection.backbones[0]
    segments, dim = selection.shape(name)
    random = [name for name in selection.backbones if selection.features.random_weights(name)]
    page = HF_PAGE.format(
        files=files, count=len(selection.rows), folder=folder.name, split=next(iter(splits)), backbone=name,
        segments=segments, dim=dim, random=f" {', '.join(random)} ran on RANDOM weights." if random else "",
    )  # fmt: skip
    (folder / "README.md").write_text(page, encoding="utf-8")
