"""The manifest: one row a video, numbered for ever.

Reads the user's table (CSV, TSV or Parquet with `video_id,path` and optionally `artist,title,genre,tags,msd_track_id`;
paths relative to the table; tags separated by `|`) or a folder of videos, and the manifest of an earlier run if there
is one.
Writes `manifest.parquet` and, last, its record `manifest.json`.

A row's number is its index on the first axis of every feature array. Known videos keep their rows, new ones are
appended in the order of the table; a video that left the table keeps its row too. No video is opened here.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import Config, Splits, read
from config.paths import Paths
from data.splits import splits_of

log = logging.getLogger("manifest")

MEDIA = set(".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
TEXT = ("artist", "title", "genre", "msd_track_id")
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("artist", pa.string()),
        ("title", pa.string()),
        ("genre", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("msd_track_id", pa.string()),
        ("split", pa.string()),
    ]
)


def read_manifest(path: Path, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """The manifest, rows in order, with these columns of SCHEMA. UserError if it is missing or not a manifest."""
    try:
        has = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in columns if name in has])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake manifest …`") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a Parquet file ({error}); delete it and run `snakemake manifest …`") from None
    if "title" in columns and "title" not in table.column_names:  # written before there were titles
        table = table.append_column("title", pa.nulls(table.num_rows, pa.string()))
    if set(columns) <= set(table.column_names):
        table = table.select(columns)
    if not table.schema.equals(pa.schema([SCHEMA.field(name) for name in columns])):
        raise UserError(f"{path} is not a manifest of this version; its columns are {has}")
    return table


def read_videos(source: Path) -> pa.Table:
    """The user's videos as a table with the columns `video_id, path` (absolute) and those of SCHEMA that were given.

    Raises UserError naming the line for a duplicate id, a missing column or value, an id that cannot be a file name,
    and for an empty table.
    """
    if not source.exists():
        raise UserError(f"videos: {source} does not exist (relative paths start at the working directory)")
    table = _folder(source) if source.is_dir() else _table(source)
    if table.num_rows == 0:
        raise UserError(f"videos: {source} lists no videos")
    _check_ids(source, table["video_id"].combine_chunks())
    return table


def _place(source: Path, index: int) -> str:
    return f"file {index + 1}" if source.is_dir() else f"row {index + 1} (after the header)"


def _check_ids(source: Path, ids: pa.Array) -> None:
    """UserError naming the first id that stands twice or cannot be a file name, which results may be called after."""
    problems = {
        "is empty": pc.equal(pc.binary_length(pc.fill_null(ids, "")), 0),
        "cannot be a file name": pc.match_substring_regex(ids, r"[/\\]|^\.\.?$"),
        "has control characters": pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"),
        "is longer than 250 bytes": pc.greater(pc.binary_length(ids), 250),
    }
    masks = {problem: pc.fill_null(mask, False).to_numpy(zero_copy_only=False) for problem, mask in problems.items()}
    # Codes are given in the order of first appearance: up to the first repeated id, every row's code is its number.
    codes = pc.fill_null(ids.dictionary_encode().indices, -1).to_numpy()
    wrong = np.logical_or.reduce(list(masks.values())) | (codes != np.arange(len(ids)))
    if not wrong.any():
        return
    index = int(wrong.argmax())
    where, video_id = f"videos: {source}, {_place(source, index)}", ids[index].as_py()
    for problem, mask in masks.items():
        if mask[index]:
            raise UserError(f"{where}: the video_id {video_id!r} {problem}")
    raise UserError(f"{where}: the video_id '{video_id}' stands already in {_place(source, int(codes[index]))}")


def _folder(folder: Path) -> pa.Table:
    """Every media file below a folder, in the order of their names; the id is the relative path, percent-escaped."""
    found = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in MEDIA:
                found.append(os.path.join(where, name))
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(f"videos: the file name {path!r} is not UTF-8; rename the file") from None
    # Escaping keeps the ids of files in subfolders apart and free of control characters.
    ids = [quote(os.path.relpath(path, folder), safe=" !#$&'()+,;=@[]{}~") for path in found]
    if long := next((i for i in ids if len(i) > 250), None):
        raise UserError(f"videos: the path {long!r} is too long to be an id; list the videos in a table with ids")
    return pa.table({"video_id": pa.array(ids, pa.string()), "path": pa.array([os.path.abspath(p) for p in found])})


def _table(source: Path) -> pa.Table:
    """Read CSV, TSV or Parquet; make paths absolute and tags lists."""
    suffix = source.suffix.lower()
    try:
        if suffix == ".parquet":
            table = pq.read_table(source)
        elif suffix in (".csv", ".tsv"):
            options = pacsv.ConvertOptions(
                column_types={name: pa.string() for name in ("video_id", "path", "tags", *TEXT)},
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            )
            dialect = pacsv.ParseOptions(delimiter="," if suffix == ".csv" else "\t", newlines_in_values=True)
            table = pacsv.read_csv(source, parse_options=dialect, convert_options=options)
        else:
            raise UserError(f"videos: {source} is neither a folder nor a .csv, .tsv or .parquet file")
    except pa.ArrowException as error:
        raise UserError(f"videos: {source} cannot be read: {error}") from None
    for column in ("video_id", "path"):
        if column not in table.column_names:
            raise UserError(f"videos: {source} has no column '{column}'; it has {', '.join(table.column_names)}")
    columns = {"video_id": _text(table, "video_id")}
    paths = _text(table, "path").to_pylist()
    if None in paths:
        raise UserError(f"videos: {source}, {_place(source, paths.index(None))}: the path is empty")
    base = str(source.parent.absolute())
    columns["path"] = pa.array([os.path.normpath(os.path.join(base, p)) for p in paths], pa.string())
    for column in TEXT:
        if column in table.column_names:
            columns[column] = _text(table, column)
    if "tags" in table.column_names:
        columns["tags"] = _tags(table["tags"].combine_chunks())
    return pa.table(columns)


def _text(table: pa.Table, column: str) -> pa.ChunkedArray:
    return table[column].cast(pa.string())


def _tags(column: pa.Array) -> pa.Array:
    """Lists of tags, from lists or from text separated by `|`; no tags stay null."""
    values = column.to_pylist()
    split = [[t.strip() for t in v.split("|") if t.strip()] if isinstance(v, str) else v for v in values]
    return pa.array([v or None for v in split], pa.list_(pa.string()))


def merge(old: pa.Table | None, new: pa.Table, shares: Splits) -> pa.Table:
    """The manifest after adding `new` (see `read_videos`) to `old`: old rows keep their numbers, new ones follow.

    Known videos take path and labels from `new`. Columns as in SCHEMA.
    """
    names = SCHEMA.names[1:]
    blank = pa.nulls(new.num_rows)
    table = pa.table({n: new[n] if n in new.column_names else blank for n in names}).cast(pa.schema(list(SCHEMA)[1:]))
    if old is not None:
        listed = pc.index_in(old["video_id"], new["video_id"].combine_chunks()).to_numpy()  # NaN: no longer listed
        gone = np.isnan(listed)
        if gone.any():
            log.warning("%d videos are no longer listed; they keep their rows and features", gone.sum())
        fresh = pc.invert(pc.is_in(new["video_id"], old["video_id"].combine_chunks())).to_numpy()
        known = np.where(gone, np.arange(len(gone)), len(gone) + np.nan_to_num(listed))
        order = np.concatenate([known.astype(np.int64), len(gone) + np.flatnonzero(fresh)])
        table = pa.concat_tables([old.select(names), table]).take(order)
    split = splits_of(table["video_id"].to_pylist(), table["artist"].to_pylist(), shares)
    columns = {n: table[n] for n in names} | {"split": pa.array(split, pa.string())}
    return pa.table({"row": np.arange(table.num_rows), **columns}, SCHEMA)


def write_manifest(paths: Paths, table: pa.Table) -> None:
    """Write the manifest and its record, both atomically, the record last."""
    with replacing(paths.manifest) as temporary:
        pq.write_table(table, temporary)
    # Paths are left out: moving the files changes neither features nor labels. So is the column of titles where there
    # are none, as in manifests that were written before it was.
    titled = table["title"].null_count < table.num_rows
    digest = hashlib.sha256()
    for batch in table.drop_columns(["path"] if titled else ["path", "title"]).to_batches(max_chunksize=65536):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        digest.update("".join(repr(list(row)) for row in rows).encode("utf-8", "surrogatepass"))
    write_json(paths.manifest_record, {"rows": table.num_rows, "sha256": digest.hexdigest()})


def main() -> None:
    """Command line."""
    config = read(parser(__doc__, "data.manifest").parse_args().config)
    update(config)


def update(config: Config) -> pa.Table:
    """Bring the manifest up to date with `config.table`; return it."""
    paths = Paths(Path(config.results))
    old = read_manifest(paths.manifest) if paths.manifest.exists() else None
    table = merge(old, read_videos(config.table), config.splits)
    write_manifest(paths, table)
    added = table.num_rows - (old.num_rows if old else 0)
    counts = {s: pc.sum(pc.equal(table["split"], s)).as_py() for s in ("train", "validation", "test")}
    log.info("%d videos, %d of them new; %s", table.num_rows, added, counts)
    return table


if __name__ == "__main__":
    run(main)
