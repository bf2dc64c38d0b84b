"""Reading media files: what is in a file, and the sound and pictures of given seconds. Reads one file; writes nothing.

All times are seconds on the file's presentation clock, counted from where the file begins to play
(`max(0, start_time of the container)`). Every problem with a file is a MediaError with one of REASONS.
This package runs inside the worker processes of `pipeline.workers`; nothing in it may import torch or essentia.
"""

from __future__ import annotations

REASONS = {
    "missing": "the file does not exist or cannot be opened for reading",
    "unreadable": "the container cannot be understood",
    "no_video_stream": "the file has no pictures",
    "no_audio_stream": "the file has no sound",
    "too_short": "the file is shorter than one segment",
    "decode_error": "the codec reports damage or is unknown",
    "empty_audio": "the sound stream has no samples where a segment is",
    "timeout": "decoding took longer than decoding.deadline_seconds",
    "crashed": "the decoder killed its process, twice",
    "out_of_memory": "decoding needed more memory than allowed",
}


class MediaError(Exception):
    """A file that cannot be used: `reason` is a key of REASONS, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS, reason
        super().__init__(reason, message)
        self.reason, self.message = reason, message

    def __str__(self) -> str:
        return self.message
