"""The option `downmix` of audio backbones that take mono. Reads and writes nothing.

`mean` keeps the cache key that it had before there was a choice, so that old caches stay valid.
"""

from __future__ import annotations

from typing import Any

TEXTS = {
    "mean": "mean of the channels",
    "layout": "by loudspeakers: ITU-R BS.775-3 mono from 3/2, stereo is its mean, without LFE",
}


def mono_text(options: dict[str, Any]) -> str:
    """Return what the cache key says about mixing to mono."""
    return TEXTS[options.get("downmix", "mean")]
