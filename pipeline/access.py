"""How a decoding process gets at the bytes of a place (data/places.py). Reads files, and addresses that are allowed;
writes what `staging` and `remote` write.

`pipeline.workers` sends every process an Access once. `opened` then turns the place of each task into what the readers
open, whatever kind it is, so that no task has to know of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.places import Address, File, Member, Place
from data.tar import ShardError
from data.tar_index import located
from pipeline.readers import MediaError
from pipeline.readers.source import Source, Span
from pipeline.remote.errors import not_fetched
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
    remote: str | None = None
    """`decoding.remote` as JSON; None: no address is allowed."""
    scratch: str | None = None
    """The folder in which fetched files lie, without a name; None: the system's for temporary files."""

    @classmethod
    def of(cls, settings: Decoding, indexes: Path | None = None, staging: str | None = None) -> Access:
        """Return the access that the configuration allows."""
        scratch = staging
        if scratch is None and settings.staging is not None:
            scratch = os.path.expanduser(os.path.expandvars(settings.staging))
        remote = settings.remote.model_dump_json() if settings.remote.allowed else None
        return cls(staging, None if indexes is None else str(indexes), remote, scratch)


@contextmanager
def opened(place: Place, access: Access, sha256: str | None = None) -> Iterator[Source]:
    """Yield what the readers open of a place. `sha256` (hex): what a fetched file must have.

    Raises MediaError for what cannot be had, UserError for what stops the whole job.
    """
    match place:
        case File():
            with staged(place.path, access.staging) as path:
                yield path
        case Member():
            with staged(_found(place, access), access.staging, os.path.splitext(place.name)[1]) as source:
                yield source
        case Address() if access.remote is None:
            raise not_fetched(
                "missing", f"{place.scheme}://{place.host} is not asked: add it to decoding.remote of the configuration"
            )
        case Address():
            from pipeline.remote.fetching import fetched  # only here: most collections have no addresses

            with fetched(place, access.remote, access.scratch, sha256) as path:
                yield path


def _found(member: Member, access: Access) -> Span:
    """Return where the bytes of a member lie. Raises MediaError: missing, unreadable."""
    try:
        entry = located(member.shard, member.name, None if access.indexes is None else Path(access.indexes))
    except ShardError as error:
        raise MediaError("missing" if error.missing else "unreadable", str(error)) from None
    return Span(member.shard, entry.begin, entry.size)
