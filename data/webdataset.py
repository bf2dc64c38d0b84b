"""Videos in tar shards of WebDataset's layout, without a table. Reads the shards' headers and their small `.json`
members, never a video; writes the shards' indexes (data/tar_index.py).

What is called `KEY.mp4` in a shard is a video, and `KEY.json` beside it, if there is one, says what a table would:
`video_id`, `artist`, `group`, `title`, `genre`, `tags` (a list, or text separated by `|`), `msd_track_id`. The key is a
member's name up to the first dot after its last slash, as in WebDataset. A video's id is `video_id` of its `.json`, or
else `SHARD/KEY`, escaped as the paths of a folder's files are; `SHARD/NAME` if the key has several videos. A `video_id`
that cannot be an id, or that an earlier video has, is not used. A shard that cannot be read is an error, because its
known videos would count as deleted.

Every member with the suffix of a video is one, also where it cannot be read (data/tar.py): reading it says why. What
else is left out, or is not usable in a `.json`, is logged with an example.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from config.cli import UserError
from config.pipeline import SHARD
from data import ids
from data.columns import LONGEST, TEXT
from data.folder import MEDIA, SAFE
from data.tar import Entry, ShardError, read_at
from data.tar_index import index_of

log = logging.getLogger("manifest")

KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 1_000_000
"""Most shards that a pattern may mean."""
LARGEST = 1 << 20
"""Bytes of the largest `.json` that is read."""
THREADS = 16
"""Shards that are read at a time: network file systems answer slowly."""


def shards_of(source: Path) -> tuple[list[str], str]:
    """Return the shards that a path or a pattern means, in order, and the folder that their ids begin at.

    A pattern has `{000..099}`, a range of numbers, or `*`, `?` and `[…]` as in a shell. What exists by its name is that
    name, such as a folder `set[1]`. UserError if there are none, also for a single number of a range.
    """
    text = os.path.join(os.getcwd(), source)  # not abspath: behind a link, `..` is another folder
    if source.exists():
        return [text], os.path.dirname(text)
    base = _existing(Path(text).parts[:-1])
    literal = f"{base}{'' if base.endswith(os.sep) else os.sep}"
    parts = RANGE.split(os.path.join(*Path(text).parts[len(Path(base).parts) :]))
    spans = [range(int(first), int(last) + 1) for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    count = 1
    for span in spans:
        count *= len(span)
    if not 0 < count <= MOST:
        raise UserError(f"videos: {source} means {count:,} shards; it may mean 1 to {MOST:,}")
    found: list[str] = []
    for numbers in itertools.product(*spans):
        filled = [f"{number:0{len(first)}d}" for number, first in zip(numbers, parts[1::3], strict=True)]
        pattern = "".join(itertools.chain(*zip(parts[0::3], [*filled, ""], strict=True)))
        if os.path.exists(literal + pattern):
            found.append(literal + pattern)
        elif shards := sorted(glob.glob(glob.escape(literal) + pattern)) if glob.has_magic(pattern) else []:
            found += shards
        else:
            raise UserError(f"videos: {source}: there is no shard {literal + pattern}")
    return list(dict.fromkeys(found)), base


def _existing(parts: Sequence[str]) -> str:
    """Return the longest folder that the first parts of an absolute path name."""
    folder = parts[0]
    for part in parts[1:]:
        if not os.path.isdir(os.path.join(folder, part)):
            break
        folder = os.path.join(folder, part)
    return folder


@dataclass
class _Shard:
    """The videos of a shard, as rows of a table, and what was left out: (why, example)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def read_shards(shards: Sequence[str], base: str, indexes: Path | None = None) -> pa.Table:
    """Return the videos of shards as `data.videos.read_videos` does; `indexes` is the folder for the shards' indexes.

    Ids begin at the folder `base`. Logs what was left out. UserError for a shard that cannot be opened or read, and for
    two members of the same id.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda shard: _read(shard, base, indexes), shards))
    left_out = [item for shard in read for item in shard.left_out]
    left_out += _settle_ids([row for shard in read for row in shard.rows])
    why = Counter(kind for kind, _ in left_out)
    examples = dict(reversed(left_out))
    for kind, count in why.most_common():
        log.warning("%d × %s (%s)", count, kind, ascii(examples[kind])[1:-1])
    rows = [row for shard in read for row in shard.rows]
    columns: dict[str, Any] = {"video_id": pa.string(), "path": pa.string(), **dict.fromkeys(TEXT, pa.string())}
    columns["tags"] = pa.list_(pa.string())
    table = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()}
    used = [name for name, column in table.items() if name in ("video_id", "path") or column.null_count < len(rows)]
    return pa.table({name: table[name] for name in used})


def unreadable(shard: str, problem: str) -> UserError:
    """Return the error for a shard that cannot be opened or read."""
    return UserError(
        f"videos: the shard {ascii(shard)[1:-1]} cannot be read: {problem}. Make it readable and run again; to do "
        "without its videos, delete it or move it elsewhere"
    )


def _settle_ids(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Replace ids of `.json` that cannot be used by the members' own (`own`, which is removed).

    Return what was not used: (why, example). UserError for two members with the same own id.
    """
    unused = []
    given = pa.array([row.get("video_id") for row in rows], pa.string())
    unusable = np.logical_or.reduce(list(ids.problems_of(given).values())) & given.is_valid().to_numpy(False)
    own = [row.pop("own") for row in rows]
    taken = {own[i]: row["path"] for i, row in enumerate(rows) if "video_id" not in row}
    for i, row in enumerate(rows):
        if unusable[i]:
            unused.append(("values of `video_id` in .json that cannot be an id", row["path"]))
        elif "video_id" in row and row["video_id"] in taken:
            unused.append(("values of `video_id` in .json that another video has", row["path"]))
        elif "video_id" in row:
            taken[row["video_id"]] = row["path"]
            continue
        row["video_id"] = own[i]
        if taken.setdefault(own[i], row["path"]) != row["path"]:
            raise UserError(
                f"videos: {ascii(row['path'])[1:-1]} and {ascii(taken[own[i]])[1:-1]} have the same id {own[i]!r}; "
                "rename one, or list the videos in a table with ids"
            )
    return unused


def _own_id(prefix: str, name: str) -> str:
    """Return the id that a member has by the names of its shard, without `.tar`, and of its key.

    The slash between them is doubled if the key has one, which keeps `a/b` + `c` and `a` + `b/c` apart. An id that
    would be too long is cut, and ends in a digest.
    """
    text = quote(f"{prefix}{'//' if '/' in name else '/'}{name}", safe=SAFE)
    if len(text) <= ids.LONGEST:
        return text
    return f"{text[:200]}~{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _read(shard: str, base: str, indexes: Path | None) -> _Shard:
    try:
        return _videos_of(shard, base, indexes)
    except ShardError as error:
        raise unreadable(shard, str(error)) from None


def _videos_of(shard: str, base: str, indexes: Path | None) -> _Shard:
    """Return the videos of a shard. Raises ShardError if it cannot be opened or read."""
    listing = _Shard()
    index = index_of(shard, indexes)
    if index.problem:
        listing.left_out.append(("shards that are damaged, cut off or joined", f"{shard}: {index.problem}"))
    videos: dict[str, list[Entry]] = {}
    sidecars: dict[str, Entry] = {}
    for entry in index.entries:
        match = KEY.fullmatch(entry.name)
        suffix = os.path.splitext(entry.name)[1].lower()
        if any(part.startswith(".") and part != ".." for part in entry.name.split("/")):
            if suffix in MEDIA:
                listing.left_out.append(("hidden members", f"{shard}::{entry.name}"))
        elif match is not None and suffix in MEDIA:
            try:
                f"{shard}{entry.name}".encode()
            except UnicodeEncodeError:
                listing.left_out.append(("members whose name is not UTF-8", f"{shard}::{entry.name}"))
                continue
            known = videos.setdefault(match[1], [])
            if any(entry.name == other.name for other in known):
                listing.left_out.append(("members with the name of another", f"{shard}::{entry.name}"))
            else:
                known.append(entry)
        elif match is not None and match[2].lower() == "json":
            sidecars[match[1]] = entry
    prefix = os.path.relpath(shard, base).removesuffix(SHARD)
    metadata = _metadata_of_shard(shard, {key: sidecars[key] for key in videos if key in sidecars}, listing)
    for key, entries in videos.items():
        for entry in entries:
            row = {**metadata.get(key, {}), "path": f"{shard}::{entry.name}"}
            row["own"] = _own_id(prefix, key if len(entries) == 1 else entry.name)
            if len(entries) > 1:
                row.pop("video_id", None)
            listing.rows.append(row)
    return listing


def _metadata_of_shard(shard: str, sidecars: dict[str, Entry], listing: _Shard) -> dict[str, dict[str, Any]]:
    """Return by key what the `.json` of a shard say. Raises ShardError."""
    if not sidecars:
        return {}
    try:
        descriptor = os.open(shard, os.O_RDONLY)
    except OSError as error:
        raise ShardError(f"the shard cannot be opened: {error.strerror}") from None
    try:
        return {key: _metadata(descriptor, shard, entry, listing) for key, entry in sidecars.items()}
    finally:
        os.close(descriptor)


def _metadata(descriptor: int, shard: str, entry: Entry, listing: _Shard) -> dict[str, Any]:
    """Return what a video's `.json` in an open shard says, of the columns of a table."""
    where = f"{shard}::{entry.name}"
    content: Any = None
    if not entry.problem and entry.size <= LARGEST:
        try:
            content = json.loads(read_at(descriptor, entry.size, entry.begin))
        except (ValueError, RecursionError):
            pass
    if not isinstance(content, dict):
        listing.left_out.append((".json that is damaged, too large or no object", where))
        return {}
    metadata: dict[str, Any] = {}
    for name in ("video_id", *TEXT):
        if content.get(name) not in (None, ""):
            text = _text(content[name])
            if text is None:
                listing.left_out.append((f"values of `{name}` in .json that are not text", where))
            else:
                metadata[name] = text
    tags = content.get("tags")
    tags = tags.split("|") if isinstance(tags, str) else tags
    if tags:
        texts = [_text(tag) for tag in tags] if isinstance(tags, list) else [None]
        if None in texts:
            listing.left_out.append(("values of `tags` in .json that are not a list of text", where))
        else:
            metadata["tags"] = [tag.strip() for tag in texts if tag and tag.strip()] or None
    return metadata


def _text(value: Any) -> str | None:
    """Return text, or the digits of an integer; None for anything that a column of text cannot hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or "\0" in value or len(value) > LONGEST // 4:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return None
    return value
