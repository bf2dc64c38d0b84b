"""The user's videos, from a table, a folder or tar shards. Reads the table, lists the folder or the shards' members,
never a video.

Writes `work/table.sha256` under the results, the digest by which the manifest's rule knows whether they have changed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from config.cli import UserError
from config.digests import digest, write_digest
from config.model import Config
from config.pipeline import SHARD, TABLES
from data.folder import SAFE, Scan, is_results
from data.ids import LONGEST, check_ids
from data.table import read_table
from data.webdataset import read_shards, shards_of, unreadable


def read_videos(source: Path, results: Path | None = None, indexes: Path | None = None) -> pa.Table:
    """Return the user's videos as a table with the columns `video_id, path` (absolute) and those of
    `data.columns.COLUMNS` that were given.

    `results`: the results folder of this pass, which is never input (others are recognised by their files). `indexes`:
    the folder in which the indexes of tar shards are kept (data/tar_index.py). UserError naming the row for a duplicate
    id, a missing column or value, an id that cannot be a file name, and for an empty table.
    """
    if source.suffix.lower() == SHARD and not source.is_dir():
        table = read_shards(*shards_of(source), indexes)
    elif not source.exists():
        raise UserError(f"videos: {source} does not exist (relative paths start at the working directory)")
    elif source.is_dir():
        table = _folder(source, results, indexes)
    elif source.suffix.lower() in TABLES:
        table = read_table(source)
    else:
        raise UserError(f"videos: {source} is neither a folder nor a {', '.join(TABLES)} or {SHARD} file")
    if table.num_rows == 0:
        raise UserError(f"videos: {source} lists no videos")
    check_ids(source, table["video_id"].combine_chunks())
    return table


def note_table(config: Config) -> Path:
    """Write the digest of the table, or of a folder's files, an input of the manifest's rule; return its path.

    Written when a pass is planned, and by `data.manifest` before it reads, so that it is older than the manifest.
    """
    return write_digest(config.paths.digest_of("table"), table_digest(config))


def table_digest(config: Config) -> str:
    """Return the SHA-256 of what `read_videos` reads: the table's bytes or, of a folder, the paths of its videos.

    Of tar shards, which are too large to be read for that, their paths, sizes and times of change. UserError for a
    shard without these, and for a folder with both.
    """
    paths = config.paths
    if config.table.suffix.lower() == SHARD and not config.table.is_dir():
        return _states(*shards_of(config.table))
    if not config.table.is_dir():
        return digest(str(config.table), paths.digests)
    scan = _scan(config.table, paths.results)
    if scan.shards:
        return _states(scan.shards, str(config.table))
    files = scan.files
    return hashlib.sha256(b"\0".join(os.fsencode(os.path.relpath(file, config.table)) for file in files)).hexdigest()


def _states(shards: list[str], base: str) -> str:
    digest = hashlib.sha256()
    for shard in shards:
        try:
            status = os.stat(shard)
        except OSError as error:
            raise unreadable(shard, error.strerror or str(error)) from None
        state = (status.st_size, status.st_mtime_ns)
        digest.update(repr((os.path.relpath(shard, base), state)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _scan(folder: Path, results: Path | None) -> Scan:
    """Walk through a folder. Raise UserError for tar shards beside files: taking one kind would drop the other."""
    scan = Scan(folder, results)
    if scan.shards and scan.files:
        raise UserError(
            f"videos: {folder} has tar shards ({ascii(scan.shards[0])[1:-1]}) and video files "
            f"({ascii(scan.files[0])[1:-1]}); for the shards give the pattern {folder}/*{SHARD}, for the files "
            "move the shards to another folder, or list both in a table"
        )
    return scan


def _folder(folder: Path, results: Path | None, indexes: Path | None) -> pa.Table:
    """Return every media file below a folder (data/folder.py); the id is the relative path, percent-escaped.

    A folder with tar files is one of shards (data/webdataset.py). UserError if it has both.
    """
    if is_results(folder) or (results is not None and results.exists() and results.samefile(folder)):
        raise UserError(
            f"videos: {folder} is a results folder, whose clips would be read as videos. Give the folder of your "
            "videos, and another one as `results`"
        )
    scan = _scan(folder, results)
    scan.report()
    if scan.shards:
        return read_shards([os.path.join(os.getcwd(), shard) for shard in scan.shards], str(folder.absolute()), indexes)
    for path in scan.files:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(f"videos: the file name {path!r} is not UTF-8; rename the file") from None
    # Escaping keeps the ids of files in subfolders apart and free of control characters.
    ids = [quote(os.path.relpath(path, folder), safe=SAFE) for path in scan.files]
    if long := next((video_id for video_id in ids if len(video_id) > LONGEST), None):
        raise UserError(f"videos: the path {long!r} is too long to be an id; list the videos in a table with ids")
    paths = [os.path.join(os.getcwd(), path) for path in scan.files]
    return pa.table({"video_id": pa.array(ids, pa.string()), "path": pa.array(paths, pa.string())})
