"""The dataset's text files: tagtraum's genre annotations (`*.cls`) and lists of track ids. Reads the paths it is given.

Genre files (Schreiber 2015, "Improving genre annotations for the Million Song Dataset"): comment lines begin with `#`,
the others are `track id <tab> genre`, in CD1 and CD2 also `track id <tab> genre <tab> genre`. In CD1 the first of two
genres got two of three votes; in CD2 both got one of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.cli import UserError
from data.msd import TRACK_ID

SEPARATOR = "<SEP>"


def read_genres(path: Path) -> dict[str, tuple[str, ...]]:
    """Return {track id: one or two genres}; a track that is listed twice has the genres of both lines, each once.

    Raises UserError naming the line that is no annotation, and for a file without any.
    """
    genres: dict[str, tuple[str, ...]] = {}
    for number, line in _lines(path):
        track, *names = (part.strip() for part in line.split("\t"))
        names = [genre for genre in names if genre]
        if not TRACK_ID.fullmatch(track) or not 1 <= len(names) <= 2:
            raise UserError(
                f"{path}, line {number}: {line[:80]!r} is not `track id <tab> genre`; is this a tagtraum genre file "
                "(`msd_tagtraum_cd1.cls`, unzipped)?"
            )
        genres[track] = tuple(dict.fromkeys((*genres.get(track, ()), *names)))
    if not genres:
        raise UserError(f"{path} has no genres: every line is empty or a comment")
    return genres


def read_tracks(path: Path) -> set[str]:
    """Return the track ids of a list: one a line, alone or first before `<SEP>`, a tab or a comma (`unique_tracks.txt`
    too).

    Raises UserError naming the line without an id, and for a file without any.
    """
    tracks = set()
    for number, line in _lines(path):
        track = line.split(SEPARATOR)[0].split("\t")[0].split(",")[0].strip()
        if not TRACK_ID.fullmatch(track):
            raise UserError(f"{path}, line {number}: {line[:80]!r} does not begin with a track id (TRAAAAW128F429D538)")
        tracks.add(track)
    if not tracks:
        raise UserError(f"{path} lists no track ids")
    return tracks


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines (from 1) of a UTF-8 file, without the empty ones and the comments."""
    number = 0
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                line.encode("utf-8")
                if line.strip() and not line.startswith("#"):
                    yield number, line.rstrip("\r\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a text file") from None
    except UnicodeEncodeError as error:
        broken = error.object[error.start].encode("utf-8", "surrogateescape")
        raise UserError(
            f"{path}, line {number}: it is not a text file in UTF-8 (the byte {broken!r}); is it still zipped?"
        ) from None
