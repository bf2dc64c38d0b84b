"""What a video's id may be: results may be named after it. Reads and writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from config.cli import UserError
from data.columns import place

LONGEST = 250
"""Bytes of the longest id: file systems allow 255 in a name, and a suffix follows."""


def problems_of(ids: pa.Array) -> dict[str, np.ndarray]:
    """Return for each thing that may be wrong with an id a mask (bool) of the ids with it; null counts as empty."""
    masks = {
        "is empty": pc.equal(pc.binary_length(pc.utf8_trim_whitespace(pc.fill_null(ids, ""))), 0),
        "cannot be a file name": pc.match_substring_regex(ids, r"[/\\]|^\.\.?$"),
        "has control characters": pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"),
        f"is longer than {LONGEST} bytes": pc.greater(pc.binary_length(ids), LONGEST),
    }
    return {problem: pc.fill_null(mask, False).to_numpy(zero_copy_only=False) for problem, mask in masks.items()}


def check_ids(source: Path, ids: pa.Array) -> None:
    """Raise UserError for the first id of a source that occurs twice or cannot be a file name."""
    masks = problems_of(ids)
    # Codes are given in the order of first appearance: up to the first repeated id, every row's code is its number.
    codes = pc.fill_null(ids.dictionary_encode().indices, -1).to_numpy()
    wrong = np.logical_or.reduce(list(masks.values())) | (codes != np.arange(len(ids)))
    if not wrong.any():
        return
    index = int(wrong.argmax())
    prefix, video_id = f"videos: {source}, {place(source, index)}", ids[index].as_py()
    for problem, mask in masks.items():
        if mask[index]:
            raise UserError(f"{prefix}: the video_id {video_id!r} {problem}")
    raise UserError(f"{prefix}: the video_id '{video_id}' stands already in {place(source, int(codes[index]))}")
