"""What goes wrong on the way to a file, before it is decided whether to try again. Reads and writes nothing."""

from __future__ import annotations

import time

from pipeline.readers import MediaError


class Temporary(Exception):
    """A failure that may be over at the next try. `wait`: seconds that the server asks to wait; None if it does not.
    `connected`: whether a connection had been made."""

    def __init__(self, message: str, wait: float | None = None, connected: bool = True) -> None:
        super().__init__(message)
        self.wait, self.connected = wait, connected


class Forbidden(Exception):
    """The server refuses this file to us (401, 403). `code`: S3's word for why; empty if it gives none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Late(Exception):
    """The deadline has passed."""


class Deadline:
    """The end of the time in which a file has to be here."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 or more."""
        return max(0.0, self._end - time.monotonic())

    def patience(self, most: float = 10.0) -> float:
        """Return how long (s) the next step may take. Raises Late if no time is left."""
        left = self.left()
        if left <= 0:
            raise Late
        return min(most, left)


def not_fetched(reason: str, message: str) -> MediaError:
    """Return a MediaError of a file that could not be brought here."""
    error = MediaError(reason, message)
    error.not_fetched = True
    return error
