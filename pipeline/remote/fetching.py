"""Brings one file here, as it is at its server to the byte, or says why not. Writes a file without a name.

A cut body is gone on with from where it ended if the server names the content (ETag) and it is the same still; else it
is fetched from its beginning. Everything ends at `decoding.remote.deadline_seconds`.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from config.cli import USER_ERRNOS, UserError
from config.remote import Remote
from data.addresses import refusal, server
from data.places import Address
from pipeline.readers import MediaError
from pipeline.remote.errors import Deadline, Forbidden, Late, Temporary, not_fetched
from pipeline.remote.request import INVALID_KEYS, Answer, Server

TRIES = 5
"""Tries in a row that bring nothing new before a file is given up."""
STEP = 1 << 20
"""Bytes that count as something new."""
PAUSE = 0.5
"""Seconds before the second try; each further one waits twice as long."""
PIECE = 1 << 18


@contextmanager
def fetched(address: Address, remote: str, folder: str | None = None, sha256: str | None = None) -> Iterator[str]:
    """Yield the path (`/proc/self/fd/N`) of a file with the content of an address, in this process only.

    `remote`: `decoding.remote` as JSON. `folder`: where the file is written, without a name; None: the system's folder
    for temporary files. `sha256` (hex): what its content must have.
    Raises MediaError: `missing` (refused, not there, not for us), `unreadable` (too large, no length, packed, another
    digest), `timeout`, `network`; UserError for a full disk and for keys that are not valid.
    """
    source = _server(remote)
    if why := refusal(address, source.settings):
        raise not_fetched("missing", why)
    folder = folder or tempfile.gettempdir()
    descriptor = _unnamed(folder)
    try:
        _Fetch(source, address, descriptor, folder, sha256).run()
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@lru_cache(maxsize=4)
def _server(settings: str) -> Server:
    return Server(Remote.model_validate_json(settings))


def _unnamed(folder: str) -> int:
    """Return the descriptor of a new file without a name in a folder. UserError if it cannot be made."""
    try:
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        # A file system without such files, as NFS is: the name is there for a moment.
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        return descriptor
    except OSError as error:
        raise _disk(folder, error) from None


def _disk(folder: str, error: OSError) -> UserError:
    return UserError(
        f"{folder}: a fetched video cannot be written there: {error.strerror}. Make room, or set decoding.staging to a "
        "folder on a larger disk, and run again; what was finished is kept"
    )


class _Fetch:
    """One file on its way: what is here of it, and the tries."""

    def __init__(self, source: Server, address: Address, descriptor: int, folder: str, sha256: str | None) -> None:
        self.source, self.address, self.descriptor, self.folder = source, address, descriptor, folder
        self.settings = source.settings
        self.place = server(address)
        self.sha256 = sha256.lower() if sha256 else None
        self.deadline = Deadline(self.settings.deadline_seconds)
        self.total: int | None = None
        self.etag: str | None = None
        self._begin()

    def _begin(self) -> None:
        """Forget what is here."""
        os.ftruncate(self.descriptor, 0)
        self.here, self.etag, self.digest = 0, None, hashlib.sha256()

    def run(self) -> None:
        """Fetch the file. Raises as `fetched`."""
        furthest, vain, tries, mismatches = 0, 0, 0, 0
        while True:
            tries += 1
            try:
                self._try()
                digest = self.digest.hexdigest()
                if self.sha256 in (None, digest):
                    return
                mismatches += 1
                if mismatches > 1:
                    raise not_fetched("unreadable", f"its sha256 is {digest}, the table's column has {self.sha256}")
                self._begin()  # the one that was cut and gone on with, or an old copy on the way
                continue
            except Temporary as error:
                if self.deadline.left() <= 0:
                    raise self._late() from None
                problem = error
            except Late:
                raise self._late() from None
            except Forbidden as error:
                raise self._forbidden(error) from None
            vain = 0 if self.here >= furthest + STEP else vain + 1
            furthest = max(furthest, self.here)
            if self.etag is None:
                self._begin()
            pause = max(PAUSE * 2 ** (max(vain, 1) - 1) * random.uniform(0.8, 1.2), problem.wait or 0.0)
            if vain >= TRIES or pause >= self.deadline.left():
                raise self._given_up(problem, tries)
            time.sleep(pause)

    def _try(self) -> None:
        """Ask once for what is missing, and write it. Raises Temporary if not all of it came."""
        headers = {}
        if self.here and self.etag is not None:
            headers = {"Range": f"bytes={self.here}-", "If-Range": self.etag}
        with self.source.get(self.address, self.deadline, headers) as answer:
            if answer.status == 206 and not self._goes_on(answer):
                self._begin()
                raise Temporary(f"{self.place}: the file changed while it was fetched")
            if answer.status == 200:
                self._begin()
            if answer.total > self.settings.largest_mb << 20:
                size = f"{answer.total / (1 << 20):,.0f} MiB"
                limit = f"decoding.remote.largest_mb = {self.settings.largest_mb}"
                raise not_fetched("unreadable", f"the file has {size}, more than {limit}")
            self.total, self.etag = answer.total, answer.etag
            self._write(answer)

    def _goes_on(self, answer: Answer) -> bool:
        """Return whether an answer is the rest of what is here."""
        same = self.etag is not None and answer.etag == self.etag and answer.total == self.total
        return same and answer.first == self.here and answer.last + 1 == answer.total

    def _write(self, answer: Answer) -> None:
        place = self.place
        while self.here < answer.total:
            try:
                data = answer.body.read1(min(PIECE, answer.total - self.here))
            except TimeoutError:
                raise Temporary(f"{place}: nothing came for a while") from None
            except (OSError, http.client.HTTPException) as error:
                raise Temporary(f"{place}: {getattr(error, 'strerror', None) or type(error).__name__}") from None
            if not data:
                raise Temporary(f"{place}: the file was cut after {self.here:,} of {answer.total:,} bytes")
            try:
                left = memoryview(data)
                while left:
                    left = left[os.pwrite(self.descriptor, left, self.here + len(data) - len(left)) :]
            except OSError as error:
                if error.errno in USER_ERRNOS:
                    raise _disk(self.folder, error) from None
                raise
            if self.sha256 is not None:
                self.digest.update(data)
            self.here += len(data)

    def _late(self) -> MediaError:
        came = f"{self.here:,} of {self.total:,} bytes" if self.total is not None else "nothing"
        limit = f"{self.deadline.seconds:g} s (decoding.remote.deadline_seconds)"
        return not_fetched("timeout", f"{self.place}: {came} came within {limit}")

    def _given_up(self, problem: Temporary, tries: int) -> MediaError:
        asked = f"; it asks to wait for {problem.wait:.0f} s" if problem.wait else ""
        return not_fetched("network", f"{problem}{asked} ({tries} {'try' if tries == 1 else 'tries'})")

    def _forbidden(self, error: Forbidden) -> Exception:
        if error.code in INVALID_KEYS:
            return UserError(
                f"{error}: the keys of decoding.remote.s3.{self.address.host} are not valid, or not any more. Nothing "
                "of this is noted as failed; export valid ones and run again"
            )
        return not_fetched("missing", str(error))
