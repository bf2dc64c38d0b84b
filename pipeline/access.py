"""How a decoding process gets at the bytes of a place (data/places.py). Reads files; writes what `staging` writes.

`pipeline.workers` sends every process an Access once. `opened` then turns the place of each task into what the readers
open, whatever kind it is, so that no task has to know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.places import File, Member, Place, Remote
from pipeline.readers import MediaError
from pipeline.staging import staged

if TYPE_CHECKING:  # pydantic, which a decoding process does without, takes long to load
    from config.pipeline import Decoding


@dataclass(frozen=True)
class Access:
    """What a decoding process needs to know to get at files; plain values, because it is sent through a pipe."""

    staging: str | None = None
    """The job's folder in `decoding.staging`, to which files are copied; None: they are read in place."""
    indexes: str | None = None
    """The folder for the indexes of tar shards; None: they are kept in memory only."""

    @classmethod
    def of(cls, settings: Decoding, indexes: Path | None = None, staging: str | None = None) -> Access:
        """Return the access that the configuration allows."""
        return cls(staging, None if indexes is None else str(indexes))


@contextmanager
def opened(place: Place, access: Access) -> Iterator[str]:
    """Yield what the readers open of a place. Raises MediaError for what cannot be had."""
    match place:
        case File():
            with staged(place.path, access.staging) as path:
                yield path
        case Member():
            raise MediaError("missing", "members of tar files cannot be read yet")
        case Remote():  # `pipeline.remote.fetched` yields a path
            raise MediaError("missing", f"{place.scheme}:// addresses are not allowed (decoding.remote)")
