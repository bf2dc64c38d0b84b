"""Readers of the Million Song Dataset's files: track summary, Last.fm tags, tagtraum genres, lists of track ids.

Bertin-Mahieux, Ellis, Whitman and Lamere (2011), "The Million Song Dataset" (http://millionsongdataset.com). The files
are not trusted: they are opened read-only, nothing in them is run, and a file of another kind is a UserError.
"""

from __future__ import annotations

import re

TRACK_ID = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
"""What a track id looks like: `TRAAAAW128F429D538`."""
