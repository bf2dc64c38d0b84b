"""The manifest: one row per video, with a permanent number.

Reads the user's table (CSV, TSV or Parquet with `video_id,path` and optionally `audio_path,audio_offset,sha256,artist,
group,title,genre,tags,msd_track_id`; paths relative to the table; tags separated by `|`) or a folder of videos, and the
manifest of an earlier run if there is one. Warns of videos that are the same file, of addresses that will not be asked
and of known videos whose audio track is another one (data/changed.py), and says what a folder scan left out.
Writes `manifest.parquet` and, last, its record `manifest.json`.

A row's number is its index on the first axis of every feature array. Known videos keep their rows, new ones are
appended in the order of the table. A video that is no longer in the table keeps its row and its features, but it is
`retired`, and labels, training, evaluation and report leave it out. In the table again, it is `active` again, in the
split that it had. Splits are kept as rows are, until `splits:` changes (data/splits.py). No video is opened here.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import Config, read
from config.paths import Paths
from config.pipeline import Splits
from data.addresses import warn_of_refused
from data.changed import note_changed
from data.columns import FILES
from data.groups import group_keys
from data.same import SHOWN, warn_of_same_files
from data.splits import SPLITS, earlier_splits, splits_of
from data.videos import note_table, read_videos

log = logging.getLogger("manifest")

SHARES = "splits"
"""Key of the manifest's metadata that holds the shares that its splits were made with."""
ACTIVE, RETIRED = "active", "retired"
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("audio_path", pa.string()),
        ("audio_offset", pa.float64()),
        ("sha256", pa.string()),
        ("artist", pa.string()),
        ("group", pa.string()),
        ("title", pa.string()),
        ("genre", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("msd_track_id", pa.string()),
        ("split", pa.string()),
        ("status", pa.string()),
    ]
)
ADDED = ("group", "title", *FILES)
"""Columns that manifests of earlier versions lack; their videos have none of it."""


def read_manifest(path: Path, columns: Sequence[str] = SCHEMA.names, stored: bool = False) -> pa.Table:
    """Return the manifest, rows in order, with these columns of SCHEMA. UserError if it is missing or not a manifest.

    The split of a retired video is null, or with `stored` the one that it returns to.
    """
    wanted = {*columns, "status"}
    try:
        has = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in has if name in wanted])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake manifest …`") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"{path} is not a Parquet file ({error}); delete it and run `snakemake manifest …`") from None
    for name in ADDED:
        if name in columns and name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, SCHEMA.field(name).type))
    if "status" not in table.column_names:  # written before videos could be retired
        table = table.append_column("status", pa.array([ACTIVE] * table.num_rows, pa.string()))
    if "split" in table.column_names and not stored:
        table = without_retired_splits(table)
    if set(columns) <= set(table.column_names):
        table = table.select(columns)
    if not table.schema.equals(pa.schema([SCHEMA.field(name) for name in columns])):
        raise UserError(f"{path} is not a manifest of this version; its columns are {has}")
    return table


def separate_audio(video: Mapping[str, Any]) -> dict[str, Any]:
    """Return `audio_path` and `audio_offset` (seconds) of a row of the manifest; empty if the audio is in its file."""
    if video["audio_path"] is None:
        return {}
    return {"audio_path": video["audio_path"], "audio_offset": video["audio_offset"] or 0.0}


def beside_path(video: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else a row of the manifest says of the video's files: FILES without those that it leaves open."""
    return ({} if video["sha256"] is None else {"sha256": video["sha256"]}) | separate_audio(video)


def active(manifest: pa.Table) -> np.ndarray:
    """Return which rows of the manifest are not retired, [videos] bool."""
    mask: np.ndarray = pc.equal(manifest["status"], ACTIVE).to_numpy()
    return mask


def without_retired_splits(manifest: pa.Table) -> pa.Table:
    """Return the manifest with null for the splits of retired videos."""
    splits = pc.if_else(pc.equal(manifest["status"], ACTIVE), manifest["split"], pa.scalar(None, pa.string()))
    return manifest.set_column(manifest.column_names.index("split"), "split", splits)


def merge(
    old: pa.Table | None, new: pa.Table, shares: Splits, given: Mapping[str, str] = MappingProxyType({})
) -> pa.Table:
    """Return the manifest after adding `new` (see `read_videos`) to `old`: old rows keep their numbers, new ones
    follow.

    Known videos take path and labels from `new`, and keep their splits unless `shares` are others than those that `old`
    was made with. Those that are not in `new` are retired. `given` holds splits by video_id that come before all
    others. Columns as in SCHEMA; the metadata say which shares were used.
    """
    names = [name for name in SCHEMA.names if name not in ("row", "status")]
    blank = pa.nulls(new.num_rows)
    table = pa.table({name: new[name] if name in new.column_names else blank for name in names})
    table = table.cast(pa.schema([SCHEMA.field(name) for name in names]))
    gone = np.zeros(new.num_rows, bool)
    if old is not None:
        listed = pc.index_in(old["video_id"], new["video_id"].combine_chunks()).to_numpy()  # NaN: no longer listed
        gone = np.isnan(listed)
        _warn_of_retired(old, gone)
        fresh = pc.invert(pc.is_in(new["video_id"], old["video_id"].combine_chunks())).to_numpy()
        known = np.where(gone, np.arange(len(gone)), len(gone) + np.nan_to_num(listed))
        order = np.concatenate([known.astype(np.int64), len(gone) + np.flatnonzero(fresh)])
        table = pa.concat_tables([old.select(names), table]).take(order)
        gone = np.concatenate([gone, np.zeros(fresh.sum(), bool)])
    split = _splits(old, table, shares, given)
    status = np.where(gone, RETIRED, ACTIVE)
    columns = {name: table[name] for name in names}
    columns |= {"split": pa.array(split, pa.string()), "status": pa.array(status, pa.string())}
    whole = pa.table({"row": np.arange(table.num_rows), **columns}, SCHEMA)
    return whole.replace_schema_metadata({SHARES: _shares_text(shares)})


def _shares_text(shares: Splits) -> str:
    return json.dumps({"rule": 2, **shares.model_dump()})


def _splits(old: pa.Table | None, table: pa.Table, shares: Splits, given: Mapping[str, str]) -> list[str]:
    """Return the splits of `table`, whose first rows are those of `old` and keep theirs if the shares are the same."""
    ids, groups = table["video_id"].to_pylist(), group_keys(table)
    known: list[str | None] = [None] * len(ids)
    moved: list[int] = []
    if old is not None and _same_shares(old, shares):
        before = group_keys(old)
        known[: len(before)] = old["split"].to_pylist()
        moved = [i for i, group in enumerate(before) if group != groups[i] and ids[i] not in given]
    elif old is not None:
        log.warning("`splits` changed: all videos get new splits")
    known = [given.get(video_id, split) for video_id, split in zip(ids, known, strict=True)]
    splits = splits_of(groups, shares, known, moved)
    _warn_of_torn_groups(groups, splits, pc.coalesce(table["group"], table["artist"]).to_pylist())
    return splits


def _same_shares(old: pa.Table, shares: Splits) -> bool:
    """Return whether a manifest's splits were made with these shares."""
    made_with = (old.schema.metadata or {}).get(SHARES.encode())
    if made_with is not None:
        return bool(made_with.decode() == _shares_text(shares))
    # Written before shares were balanced, when each group's split could be told from its name.
    ids, artists, splits = (old[name].to_pylist() for name in ("video_id", "artist", "split"))
    return bool(splits == earlier_splits(ids, artists, shares))


def _warn_of_torn_groups(groups: list[str], splits: list[str], names: list[str | None]) -> None:
    """Warn of groups in several splits: under the earlier rule two spellings were two artists."""
    first: dict[str, str] = {}
    torn = {names[i] for i, group in enumerate(groups) if first.setdefault(group, splits[i]) != splits[i]}
    if torn:
        shown = ", ".join(sorted(repr(name) for name in torn)[:SHOWN])
        log.warning(
            "%d groups stand in several splits, because an earlier version took their spellings for several artists "
            "(%s). Known videos keep their splits; a new results folder, or other `splits`, puts each group into one",
            len(torn),
            shown,
        )


def _warn_of_retired(old: pa.Table, gone: np.ndarray) -> None:
    """Warn of known videos that retire (`gone`: [videos] bool, those that are not in the table) or return."""
    was = active(old)
    retired, back = int((was & gone).sum()), int((~was & ~gone).sum())
    if back:
        log.warning("%d videos that were retired are in the table again; they take part again", back)
    if retired:
        log.warning(
            "%d videos are no longer in the table and are retired: they keep their rows and features, but are left out "
            "of labels, training, evaluation and report until they are in the table again",
            retired,
        )
    if 2 * retired > was.sum():
        log.warning(
            "THAT IS MORE THAN HALF of the %d videos. If the table is not the whole one, put it right and run again; "
            "nothing is lost",
            was.sum(),
        )


def write_manifest(paths: Paths, table: pa.Table) -> None:
    """Write the manifest and its record, both atomically, the record last."""
    with replacing(paths.manifest) as temporary:
        pq.write_table(table, temporary)
    write_record(paths, table)


def write_record(paths: Paths, table: pa.Table) -> None:
    """Write the manifest's record: rows, a digest of what is in them and, if some are retired, their number."""
    # Paths are left out, and what else is said of files: moving them changes neither features nor labels. So are the
    # columns of ADDED where they are empty, and that of the status where nobody is retired, as in manifests that were
    # written before they were.
    unused = {"path", *FILES, *(name for name in ADDED if table[name].null_count == table.num_rows)}
    retired = int((~active(table)).sum())
    if not retired:
        unused.add("status")
    digest = hashlib.sha256()
    for batch in table.drop_columns(sorted(unused)).to_batches(max_chunksize=65536):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        digest.update("".join(repr(list(row)) for row in rows).encode("utf-8", "surrogatepass"))
    record = {"rows": table.num_rows, "sha256": digest.hexdigest()}
    write_json(paths.manifest_record, record | ({"retired": retired} if retired else {}))


def main() -> None:
    """Run the command line."""
    config = read(parser(__doc__, "data.manifest").parse_args().config)
    update(config)


def update(config: Config, given: Mapping[str, str] = MappingProxyType({})) -> pa.Table:
    """Bring the manifest up to date with `config.table`; return it. `given`: splits by video_id."""
    paths = config.paths
    old = read_manifest(paths.manifest, stored=True) if paths.manifest.exists() else None
    if config.videos is not None and (config.table.exists() or config.is_pattern):
        note_table(config)
    videos = read_videos(config.table, paths.results, paths.shard_indexes)
    warn_of_same_files(videos)
    audio = videos["audio_path"].drop_null().to_pylist() if "audio_path" in videos.column_names else []
    warn_of_refused([*videos["path"].to_pylist(), *audio], config.decoding.remote)
    table = merge(old, videos, config.splits, given)
    if old is not None and paths.plan.exists():  # before the first plan nothing has been computed
        note_changed(paths, old, table)
    if old is not None and table.equals(old):  # an older version's file stays as it is, with one column less
        write_record(paths, table)
    else:
        write_manifest(paths, table)
    added = table.num_rows - (old.num_rows if old else 0)
    splits = without_retired_splits(table)["split"]
    counts = {split: pc.sum(pc.equal(splits, split)).as_py() for split in SPLITS}
    retired = int((~active(table)).sum())
    suffix = f", {retired} of them retired" if retired else ""
    log.info("%d videos, %d of them new%s; %s", table.num_rows, added, suffix, counts)
    return table


if __name__ == "__main__":
    run(main)
