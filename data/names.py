"""One normal form for the names of artists and titles: splits, groups and the matching with the Million Song Dataset
all compare names through `plain`. Reads and writes nothing.
"""

from __future__ import annotations

import re
import unicodedata

# What the titles of music videos say about the video or its guests, in brackets or after a dash.
_ABOUT = (
    r"(official|lyrics?|audio|video|music video|visuali[sz]er|clip|hd|hq|4k|m/?v|remaster(ed)?|feat|ft|featuring)\b"
)
_BRACKETS = re.compile(rf"[(\[][^()\[\]]*\b{_ABOUT}[^()\[\]]*[)\]]")
_GUESTS = re.compile(r"\s(feat\.?|ft\.?|featuring)\s.*$")
# Straight, curly and modifier apostrophes, primes, accents that stand alone: people write one for the other.
_APOSTROPHES = str.maketrans("", "", "'’‘‛ʼʻʹ′´`＇ꞌ")
_LETTER_MARKS = {7, 8, 9}
"""Combining classes of marks that make another letter (nukta, Japanese voicing, virama), unlike accents."""


def plain(text: str) -> str:
    """Return the normal form of a name, equal for all its spellings; "" if nothing is left.

    Case, accents, composed or decomposed characters, full width, apostrophes, punctuation, blanks, a leading "the",
    guests ("feat. …") and remarks like "(Official Video)" do not count.
    """
    text = _GUESTS.sub("", _BRACKETS.sub(" ", _folded(text))).replace("&", " and ")
    words = "".join(
        character if character.isalnum() or unicodedata.category(character)[0] == "M" else " " for character in text
    ).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


def _folded(text: str) -> str:
    """Return the text without case, accents, apostrophes and invisible characters, in Unicode's composed form."""
    # Decomposed first: all forms of a text are one then. The accent that stands alone is a blank with an accent there.
    text = unicodedata.normalize("NFKD", text).replace(" \u0301", "").translate(_APOSTROPHES).casefold()
    kept = (
        character
        for character in unicodedata.normalize("NFKD", text)
        if unicodedata.combining(character) in (0, *_LETTER_MARKS) and unicodedata.category(character) != "Cf"
    )
    return unicodedata.normalize("NFC", "".join(kept)).translate(_APOSTROPHES)


def artist_name(artist: str | None) -> str | None:
    """Return the normal form of an artist's name; None for a missing or blank one.

    A name of which `plain` leaves nothing, such as "!!!", keeps its punctuation.
    """
    if artist is None or not artist.strip():
        return None
    return plain(artist) or " ".join(unicodedata.normalize("NFKC", artist).casefold().split()) or None


def group_of(video_id: str, artist: str | None, group: str | None = None) -> str:
    """Return the group of a video: its `group` or else its artist, in normal form, or the video alone without either.

    Videos of one group never stand in two splits.
    """
    name = artist_name(group) or artist_name(artist)
    return f"video\0{video_id}" if name is None else f"artist\0{name}"
