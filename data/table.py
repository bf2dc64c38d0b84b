"""The user's table of videos: CSV, TSV or Parquet. Reads that file only, never a video.

Every problem is a UserError that names the file, the row and the column; no row is dropped silently.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config.cli import UserError
from config.pipeline import TABLES
from data.addresses import secret
from data.folder import MEDIA
from data.places import ADDRESSES, Remote, joined, parse, shown

log = logging.getLogger("manifest")

REQUIRED = ("video_id", "path")
TEXT = ("artist", "group", "title", "genre", "msd_track_id")
AUDIO = ("audio_path", "audio_offset")
"""Another file with the video's audio, and the second in it at which the video begins."""
SHA256 = "sha256"
FILES = (*AUDIO, SHA256)
COLUMNS = (*REQUIRED, *FILES, *TEXT, "tags")
LONGEST = 100_000
"""Bytes of the longest text that a column may hold."""
_HEAD = 4096


def read_table(source: Path) -> pa.Table:
    """Return the videos of a table: `video_id`, `path` (absolute) and those of TEXT, `tags` (lists), `audio_path`
    (absolute), `audio_offset` (float64, s) and `sha256` (of addresses; null for files) that it has.

    Text may also be integers, which become their digits (not `path`). A path may be a file, a member of a tar shard or
    an address (data/places.py). Relative ones start at the table's folder, and `..` in them is left to the system,
    which follows links first.
    Raises UserError for what is not such a table, naming row and column.
    """
    suffix = source.suffix.lower()
    table = _parquet(source) if suffix == ".parquet" else _delimited(source, {".csv": ",", ".tsv": "\t"}[suffix])
    columns = {name: table[name] for name in COLUMNS if name in table.column_names}
    digests = columns.pop(SHA256, None)
    kinds = {"tags": _tags, "audio_offset": _seconds}
    columns = {n: kinds[n](source, c) if n in kinds else _text(source, n, c) for n, c in columns.items()}
    paths = columns["path"].to_pylist()
    if not all(paths):
        fail(source, next(i for i, path in enumerate(paths) if not path), "path", "the path is empty")
    columns["path"] = _places(source, "path", paths)
    if "audio_path" in columns:
        columns["audio_path"] = _places(source, "audio_path", columns["audio_path"].to_pylist())
    if "audio_offset" in columns:
        columns["audio_offset"] = _offsets(source, columns["audio_offset"], columns.get("audio_path"))
    is_address = [path.startswith(ADDRESSES) for path in columns["path"].to_pylist()]
    if digests is not None:
        if any(is_address):  # else the column has another purpose, and may have any form
            columns[SHA256] = _digests(source, is_address, _text(source, SHA256, digests).to_pylist())
        _note_unchecked(digests, is_address, columns.get("audio_path"))
    return pa.table(columns)


def place(source: Path, index: int) -> str:
    """Return how an error names row `index` (from 0)."""
    listed = source.suffix.lower() in TABLES and not source.is_dir()
    return f"row {index + 1} (after the header)" if listed else f"file {index + 1}"


def fail(source: Path, index: int, column: str, problem: str) -> NoReturn:
    """Raise a UserError about one value."""
    raise UserError(f"videos: {source}, {place(source, index)}, column '{column}': {problem}")


def _places(source: Path, name: str, texts: list[str | None]) -> pa.Array:
    """A column of places (data/places.py), relative ones from the table's folder; none for an empty text.

    UserError for an address that is malformed or holds a secret, which is not repeated.
    """
    base = str(source.parent.absolute())
    places: list[str | None] = []
    for index, text in enumerate(texts):
        if not text:
            places.append(None)
            continue
        try:
            found = joined(base, text)
            if found.startswith(ADDRESSES) and isinstance(address := parse(found), Remote) and (why := secret(address)):
                fail(source, index, name, why)
            places.append(found)
        except ValueError as error:
            fail(source, index, name, f"{error} ({shown(text)!r})")
    return pa.array(places, pa.string())


def _digests(source: Path, is_address: list[bool], values: list[str | None]) -> pa.Array:
    """The digests of addresses, in small letters. Those of files are left out: files are not checked."""
    digests: list[str | None] = []
    for index, (checked, value) in enumerate(zip(is_address, values, strict=True)):
        digest = value.strip().lower() if value and checked else None
        if digest and not re.fullmatch("[0-9a-f]{64}", digest):
            fail(source, index, SHA256, f"{value!r} is not a SHA-256: 64 hexadecimal digits")
        digests.append(digest or None)
    return pa.array(digests, pa.string())


def _seconds(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """Numbers, or text that is a number, as float64; missing ones are null."""
    values = _one(source, column)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        numbers = values.cast(pa.float64())
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    seconds: list[float | None] = []
    for index, text in enumerate(_text(source, "audio_offset", column, "seconds").to_pylist()):
        try:
            seconds.append(float(text) if text and text.strip() else None)
        except ValueError:
            fail(source, index, "audio_offset", f"{text[:60]!r} is no number of seconds")
    return pa.array(seconds, pa.float64())


def _note_unchecked(digests: pa.ChunkedArray, is_address: list[bool], tracks: pa.Array | None) -> None:
    """Log how many values of `sha256` say nothing about a file that is checked."""
    given = digests.is_valid().to_pylist()
    if local := sum(has and not fetched for has, fetched in zip(given, is_address, strict=True)):
        log.info("sha256 of %d videos is not used: only fetched files are checked, and their `path` is local", local)
    places = [] if tracks is None else tracks.to_pylist()
    if sounds := sum(has and (track or "").startswith(ADDRESSES) for has, track in zip(given, places, strict=False)):
        log.info("sha256 is that of `path`: the fetched `audio_path` of %d videos is not checked", sounds)


def _offsets(source: Path, offsets: pa.Array, tracks: pa.Array | None) -> pa.Array:
    """Return the offsets, null for a 0 without `audio_path` (empty values filled with 0). UserError for wrong ones."""
    known = [None] * len(offsets) if tracks is None else tracks.to_pylist()
    for index, (offset, track) in enumerate(zip(offsets.to_pylist(), known, strict=True)):
        if offset is not None and not math.isfinite(offset):
            fail(source, index, "audio_offset", f"{offset} is no number of seconds")
        if offset and track is None:
            fail(source, index, "audio_offset", "there is no `audio_path` in which the video begins there")
    return pc.if_else(pc.is_valid(pa.array(known, pa.string())), offsets, pa.scalar(None, pa.float64()))


def _check_header(source: Path, names: list[str]) -> None:
    shown = ", ".join(ascii(name)[1:-1] for name in names)
    for column in REQUIRED:
        if column not in names:
            raise UserError(f"videos: {source} has no column '{column}'; it has {shown}")
    for column in COLUMNS:
        if names.count(column) > 1:
            raise UserError(f"videos: {source} has the column '{column}' {names.count(column)} times; keep one of them")
    for name in names:
        if name not in COLUMNS and name.strip().lower() in COLUMNS:
            log.warning("%s: the column %r is not used; did you mean '%s'?", source, name, name.strip().lower())


def _delimited(source: Path, delimiter: str) -> pa.Table:
    """CSV or TSV in UTF-8 with quotes as in RFC 4180; empty values are null, empty lines are none."""
    with open(source, "rb") as binary:
        head = binary.read(_HEAD)
    if not head:
        raise UserError(f"videos: {source} cannot be read: it is empty")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        raise UserError(f"videos: {source} cannot be read: it is UTF-16 or not text; save it as UTF-8")
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = _rows(source, file, delimiter)
            names = next(rows, [])
            _check_header(source, names)
            used = [(name, names.index(name)) for name in COLUMNS if name in names]
            values: dict[str, list[str | None]] = {name: [] for name, _ in used}
            for row in rows:
                for name, column in used:
                    values[name].append(row[column] or None)
    finally:
        csv.field_size_limit(limit)
    return pa.table({name: _encoded(source, name, column) for name, column in values.items()})


def _rows(source: Path, file: Any, delimiter: str) -> Iterator[list[str]]:
    """The header and the rows, each with as many values as the header."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    names: list[str] = []
    count, ended = -1, 0  # rows so far, without the header; the line at which the last one ended
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _broken(source, count + 1, range(ended + 1, reader.line_num + 1), names, delimiter, str(error))
        if row:
            count += 1
            if count == 0:
                names = row
            elif len(row) != len(names):
                column = names[len(row)] if len(row) < len(names) else f"after '{names[-1]}'"
                where = f"{place(source, count - 1)}, line {reader.line_num}, column '{column}'"
                problem = f"the row has {len(row)} values, the header {len(names)}"
                raise UserError(f"videos: {source} cannot be read: {where}: {problem}")
            elif reader.line_num - ended > 1:
                _check_line_breaks(source, count - 1, names, row, delimiter)
            yield row
        ended = reader.line_num


def _broken(source: Path, row: int, lines: range, names: list[str], delimiter: str, problem: str) -> NoReturn:
    """Raise a UserError about quotes, with the column of the row (which has these lines) in which they go wrong."""
    with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        text = "".join(islice(file, lines.start - 1, lines.stop - 1))
    if "end of data" in problem:
        problem = "a quote is opened here and never closed, which swallows the rows after it"
        text = text.splitlines()[0]
    else:  # the longest beginning that is still right
        text = text[: bisect(range(len(text)), False, key=lambda end: _wrong(text[: end + 1], delimiter))]
    index = len(next(csv.reader(text.splitlines(True), delimiter=delimiter), [])) - 1
    column = names[index] if 0 <= index < len(names) else "?"
    where = "the header" if row == 0 else f"{place(source, row - 1)}, column '{column}'"
    raise UserError(
        f"videos: {source} cannot be read: {where}, line {lines.start}: {problem}; write a quote in a value twice"
    )


def _wrong(text: str, delimiter: str) -> bool:
    """Whether the beginning of a row has a quote in the wrong place."""
    try:
        next(csv.reader(text.splitlines(True), delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        return "end of data" not in str(error)
    return False


def _check_line_breaks(source: Path, index: int, names: list[str], row: list[str], delimiter: str) -> None:
    """UserError if a value with line breaks holds another row, which a missing quote swallows."""
    for name, value in zip(names, row, strict=True):
        if "\n" in value or "\r" in value:
            pieces = re.split(f"[{delimiter}\r\n]", value)
            media = sum(os.path.splitext(piece.strip().strip('"'))[1].lower() in MEDIA for piece in pieces)
            if media > (name == "path"):
                fail(source, index, name, "the value has a line break and a whole row in it; is a quote missing?")
            log.warning("%s, %s: the value of '%s' has a line break", source, place(source, index), name)


def _encoded(source: Path, name: str, values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        for index, value in enumerate(values):
            if value is not None and not value.isascii():
                _utf8(source, index, name, value.encode("utf-8", "surrogateescape"))
        raise


def _utf8(source: Path, index: int, name: str, raw: bytes) -> None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(source, index, name, f"{raw[:60]!r} is not UTF-8 ({error.reason}); save the table as UTF-8")


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a UserError. Errors of the disk pass."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"videos: {source} cannot be read as Parquet: {error}") from None


def _parquet(source: Path) -> pa.Table:
    with _readable(source), pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        _check_header(source, names)
        return file.read(columns=[name for name in COLUMNS if name in names])


_IS_TEXT: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
    pa.types.is_binary_view, pa.types.is_fixed_size_binary, pa.types.is_null,
)  # fmt: skip
_IS_LIST: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip


def _is(kinds: tuple[Callable[[pa.DataType], bool], ...], of: pa.DataType) -> bool:
    return any(kind(of) for kind in kinds)


def _text(source: Path, name: str, column: pa.ChunkedArray, wanted: str = "text") -> pa.Array:
    """A column as text. Integers become their digits; numbers that are all missing become nulls."""
    values = _one(source, column)
    if pa.types.is_integer(values.type) and name not in ("path", "audio_path", "tags"):
        return values.cast(pa.string())
    if pa.types.is_floating(values.type) and pc.all(pc.is_null(values, nan_is_null=True)).as_py() is not False:
        return pa.nulls(len(values), pa.string())  # what pandas makes of a column without any value
    if not _is(_IS_TEXT, values.type):
        index = next((i for i, valid in enumerate(values.is_valid().to_pylist()) if valid), 0)
        fail(source, index, name, f"the column is {values.type}, not {wanted}")
    if not pa.types.is_null(values.type):
        values = values.cast(pa.large_binary())
    try:
        text = values.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        for index, raw in enumerate(values.to_pylist()):
            _utf8(source, index, name, raw or b"")
        raise
    for problem, wrong in (
        (f"the text is longer than {LONGEST:,} bytes", pc.greater(pc.binary_length(text), LONGEST)),
        ("the text has a NUL character", pc.match_substring(text, "\0")),
    ):
        if (index := pc.index(wrong, True).as_py()) >= 0:
            fail(source, index, name, problem)
    return text


def _one(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, without dictionary encoding."""
    with _readable(source):
        if pa.types.is_dictionary(column.type):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        values = column.combine_chunks()
        return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def _tags(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """Lists of tags without surrounding blanks, from lists or from text separated by `|`; no tags are null."""
    if not _is(_IS_LIST, column.type):
        wanted = "text separated by `|` or lists of text"
        lists: list[Any] = [value and value.split("|") for value in _text(source, "tags", column, wanted).to_pylist()]
    else:
        inner = column.type.value_type
        inner = inner.value_type if pa.types.is_dictionary(inner) else inner
        if not _is(_IS_TEXT, inner):
            fail(source, 0, "tags", f"the column is {column.type}, not text separated by `|` or lists of text")
        lists = _lists(source, column)
    tags = [[tag.strip() for tag in value if tag.strip()] if value else None for value in lists]
    return pa.array([value or None for value in tags], pa.list_(pa.string()))


def _lists(source: Path, column: pa.ChunkedArray) -> list[list[str] | None]:
    lists: list[list[str] | None] = []
    for index, scalar in enumerate(column):
        try:
            tags = scalar.as_py()
        except UnicodeDecodeError:
            fail(source, index, "tags", "a tag is not UTF-8")
        for position, tag in enumerate(tags or ()):
            if tag is None:
                fail(source, index, "tags", "a tag in the list is missing (null)")
            if isinstance(tag, bytes):
                _utf8(source, index, "tags", tag)
                tags[position] = tag = tag.decode()
            if "\0" in tag or len(tag) > LONGEST:
                fail(source, index, "tags", f"a tag has a NUL character or more than {LONGEST:,} characters")
        lists.append(tags)
    return lists
