"""The columns that a table of videos may have, and the values of one column as text, tags or numbers, whatever type the
user's file gives them. Reads and writes nothing.

Every problem is a UserError that names the file, the row and the column; no row is dropped silently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from config.cli import UserError
from config.pipeline import TABLES

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


def check_header(source: Path, names: list[str]) -> None:
    """Raise a UserError where a column of REQUIRED is missing or one of COLUMNS is there twice; warn of near misses."""
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


def place(source: Path, index: int) -> str:
    """Return how an error names row `index` (from 0)."""
    listed = source.suffix.lower() in TABLES and not source.is_dir()
    return f"row {index + 1} (after the header)" if listed else f"file {index + 1}"


def fail(source: Path, index: int, column: str, problem: str) -> NoReturn:
    """Raise a UserError about one value."""
    raise UserError(f"videos: {source}, {place(source, index)}, column '{column}': {problem}")


def check_utf8(source: Path, index: int, name: str, raw: bytes) -> None:
    """Raise a UserError where the bytes of a value are not UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(source, index, name, f"{raw[:60]!r} is not UTF-8 ({error.reason}); save the table as UTF-8")


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a UserError. Errors of the disk pass."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"videos: {source} cannot be read as Parquet: {error}") from None


_IS_TEXT: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
    pa.types.is_binary_view, pa.types.is_fixed_size_binary, pa.types.is_null,
)  # fmt: skip
_IS_LIST: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip


def _is(kinds: tuple[Callable[[pa.DataType], bool], ...], column_type: pa.DataType) -> bool:
    return any(kind(column_type) for kind in kinds)


def text_of(source: Path, name: str, column: pa.ChunkedArray, wanted: str = "text") -> pa.Array:
    """Return a column as text. Integers become their digits; numbers that are all missing become nulls.

    UserError for another type, text that is not UTF-8 or longer than LONGEST, and NUL characters.
    """
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
            check_utf8(source, index, name, raw or b"")
        raise
    for problem, wrong in (
        (f"the text is longer than {LONGEST:,} bytes", pc.greater(pc.binary_length(text), LONGEST)),
        ("the text has a NUL character", pc.match_substring(text, "\0")),
    ):
        if (index := pc.index(wrong, True).as_py()) >= 0:
            fail(source, index, name, problem)
    return text


def _one(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array, without dictionary encoding."""
    with readable(source):
        if pa.types.is_dictionary(column.type):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        values = column.combine_chunks()
        return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def tags_of(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """Return lists of tags without surrounding blanks, from lists or from text separated by `|`; no tags are null."""
    if not _is(_IS_LIST, column.type):
        wanted = "text separated by `|` or lists of text"
        lists: list[Any] = [value and value.split("|") for value in text_of(source, "tags", column, wanted).to_pylist()]
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
                check_utf8(source, index, "tags", tag)
                tags[position] = tag = tag.decode()
            if "\0" in tag or len(tag) > LONGEST:
                fail(source, index, "tags", f"a tag has a NUL character or more than {LONGEST:,} characters")
        lists.append(tags)
    return lists


def seconds_of(source: Path, column: pa.ChunkedArray) -> pa.Array:
    """Return numbers, or text that is a number, as float64; missing ones are null. UserError for other text."""
    values = _one(source, column)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        numbers = values.cast(pa.float64())
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    seconds: list[float | None] = []
    for index, text in enumerate(text_of(source, "audio_offset", column, "seconds").to_pylist()):
        try:
            seconds.append(float(text) if text and text.strip() else None)
        except ValueError:
            fail(source, index, "audio_offset", f"{text[:60]!r} is no number of seconds")
    return pa.array(seconds, pa.float64())
