"""Tables of videos as CSV or TSV: UTF-8, with quotes as in RFC 4180. Reads that file only.

Every problem is a UserError that names the file, the row and the column; no row is dropped silently.
"""

from __future__ import annotations

import csv
import logging
import os
import re
from bisect import bisect
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from config.cli import UserError
from data.columns import COLUMNS, check_header, check_utf8, fail, place
from data.folder import MEDIA

log = logging.getLogger("manifest")

_HEAD = 4096


def read_delimited(source: Path, delimiter: str) -> pa.Table:
    """Return the columns of COLUMNS as text; empty values are null, empty lines are none."""
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
            check_header(source, names)
            used = [(name, names.index(name)) for name in COLUMNS if name in names]
            values: dict[str, list[str | None]] = {name: [] for name, _ in used}
            for row in rows:
                for name, column in used:
                    values[name].append(row[column] or None)
    finally:
        csv.field_size_limit(limit)
    return pa.table({name: _encoded(source, name, column) for name, column in values.items()})


def _rows(source: Path, file: Any, delimiter: str) -> Iterator[list[str]]:
    """Yield the header and the rows, each with as many values as the header."""
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
    """Return whether the beginning of a row has a quote in the wrong place."""
    try:
        next(csv.reader(text.splitlines(True), delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        return "end of data" not in str(error)
    return False


def _check_line_breaks(source: Path, index: int, names: list[str], row: list[str], delimiter: str) -> None:
    """Raise a UserError if a value with line breaks holds another row, which a missing quote swallows."""
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
                check_utf8(source, index, name, value.encode("utf-8", "surrogateescape"))
        raise
