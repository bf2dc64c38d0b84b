"""The journal of an unfinished shard: the outcome of each video so far, safe against a kill at any moment.

Reads and writes `work/<part>/<shard>/journal`. The file starts with a line that names the cache key; then follow
records, each a length, a JSON header, raw numbers and a CRC-32. Records are only appended. A torn last record, which a
killed job leaves, is cut off when the journal is opened again; a journal of another key is thrown away.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.claim import Claim
from pipeline.readers import MediaError

_FRAME = struct.Struct("<II")  # bytes of the header, bytes of the numbers
_CRC = struct.Struct("<I")


class Journal:
    """Outcomes by manifest row: an array of one fixed shape and dtype, or a MediaError. One writer: see `Claim`.

    By row, to be set before `add`: `decoders` names the decoder of an array, `mono_loss` is the loss (dB) by mixing to
    mono where it is large, and `timelines` what the probe knows of a file's clock (see `Record`). `carried` counts the
    decoders of arrays that came from the store; `tried`, by row, the attempts whose failure was forgotten.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, ...], dtype: type) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.outcomes: dict[int, np.ndarray | MediaError] = {}
        self.decoders: dict[int, str] = {}
        self.mono_loss: dict[int, float] = {}
        self.carried: dict[str, int] = {}
        self.tried: dict[int, int] = {}
        self.timelines: dict[int, list[float] | None] = {}
        self._folder, self._path = folder, folder / "journal"
        self._title = json.dumps({"key": key, "shape": list(shape), "dtype": self.dtype.str}).encode() + b"\n"
        self._claim = Claim(folder.with_suffix(".claim"))
        try:
            self._open()
        except BaseException:
            self._claim.release()  # a full disk needs the room
            raise

    def _open(self) -> None:
        """Load what a killed job has left, and append after it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        title = self._title
        old = self._path.read_bytes() if self._path.exists() else b""
        good = self._load(old, len(title)) if old.startswith(title) else 0
        self._file = open(self._path, "r+b" if good else "wb", buffering=0)
        if good:
            self._file.truncate(good)
            self._file.seek(good)
        else:
            self._file.write(title)

    def _load(self, data: bytes, position: int) -> int:
        """Load the whole records; return the position of the first torn one."""
        for header, numbers, end in _records(data, position):
            position = end
            if "carried" in header:
                self.carried = header["carried"]
                continue
            if "tried" in header:
                self.tried = {int(row): attempts for row, attempts in header["tried"].items()}
                continue
            row = header["row"]
            if "reason" in header:
                facts = {name: header[name] for name in ("attempts", "decoder") if name in header}
                self.outcomes[row] = MediaError(header["reason"], header["message"], **facts)
            else:
                self.outcomes[row] = np.frombuffer(numbers, self.dtype).reshape(self.shape)
                if "mono_loss" in header:
                    self.mono_loss[row] = header["mono_loss"]
                if "decoder" in header:
                    self.decoders[row] = header["decoder"]
                if "timeline" in header:
                    self.timelines[row] = header["timeline"]
        return position

    def add(self, row: int, outcome: np.ndarray | MediaError) -> None:
        """Append one video's outcome; from then on it survives a kill. OSError if the disk is full."""
        header: dict[str, Any] = {"row": row}
        numbers = b""
        if isinstance(outcome, MediaError):
            header |= {name: getattr(outcome, name) for name in ("reason", "message", "attempts", "decoder")}
        else:
            if outcome.shape != self.shape or outcome.dtype != self.dtype:
                raise ValueError(f"{outcome.dtype} {outcome.shape} is not {self.dtype} {self.shape}")
            numbers = outcome.tobytes()
            if row in self.mono_loss:
                header["mono_loss"] = self.mono_loss[row]
            if row in self.decoders:
                header["decoder"] = self.decoders[row]
            if row in self.timelines:
                header["timeline"] = self.timelines[row]
        self._append(header, numbers)
        self.outcomes[row] = outcome

    def carry(self, decoders: dict[str, int]) -> None:
        """Append {decoder: arrays} of those that come from the store. UserError if another job has the shard now."""
        self._claim.check()
        self._append({"carried": decoders}, b"")
        self.carried = decoders

    def _append(self, header: dict[str, Any], numbers: bytes) -> None:
        text = json.dumps(header).encode()
        body = _FRAME.pack(len(text), len(numbers)) + text + numbers
        record = memoryview(body + _CRC.pack(zlib.crc32(body)))
        while record:  # an unbuffered write may be short; the rest would then raise, or succeed
            record = record[self._file.write(record) :]

    def forget(self, rows: Iterable[int]) -> None:
        """Keep only the outcomes of other rows, so that the next run tries these videos again."""
        gone = set(rows)
        for row in gone:
            outcome = self.outcomes.get(row)
            if isinstance(outcome, MediaError):
                self.tried[row] = outcome.attempts
        kept = {row: outcome for row, outcome in self.outcomes.items() if row not in gone}
        # A new file that takes the old one's place: a kill in between must not cost what was computed.
        self._file.close()
        self._file = open(self._path.with_name("journal.new"), "wb", buffering=0)
        self._file.write(self._title)
        self.outcomes = {}
        if self.carried:
            self.carry(self.carried)
        if self.tried:
            self._append({"tried": self.tried}, b"")
        for row, outcome in kept.items():
            self.add(row, outcome)
        os.replace(self._path.with_name("journal.new"), self._path)

    def discard(self) -> None:
        """Remove the journal: the shard is in place."""
        self._file.close()
        self._path.unlink()
        self._path.with_name("journal.new").unlink(missing_ok=True)
        self._folder.rmdir()  # not the folders above: another job may be about to use them

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and give the claim back; what was added stays."""
        self._file.close()
        self._claim.release()


def _records(data: bytes, position: int) -> Iterator[tuple[dict[str, Any], bytes, int]]:
    """Yield the whole records from `position` on: (header, numbers, position of the record's end)."""
    while position + _FRAME.size <= len(data):
        text, numbers = _FRAME.unpack_from(data, position)
        middle = position + _FRAME.size + text
        end = middle + numbers + _CRC.size
        stop = end - _CRC.size
        if end > len(data) or _CRC.unpack_from(data, stop)[0] != zlib.crc32(data[position:stop]):
            return
        yield json.loads(data[position + _FRAME.size : middle]), data[middle:stop], end
        position = end
