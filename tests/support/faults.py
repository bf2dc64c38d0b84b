"""What goes wrong in the jobs of the Slurm tests. Written as `sitecustomize.py` into a folder on PYTHONPATH, it runs at
the start of every Python process of every job.

Reads FAULTS, a folder: `slow.json` has {part of a path: seconds that reading such a file takes longer}; a file
`exit-N` makes the next extraction of shard N exit with status 1. Appends to `reads.txt` every file that is read.
"""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAULTS"])


def _slow_readers() -> None:
    from pipeline.readers import first

    read = first.audio
    slow = json.loads((FOLDER / "slow.json").read_text())

    def audio(path, **request):
        import time

        with open(FOLDER / "reads.txt", "a") as file:
            file.write(f"{path}\n")
        time.sleep(next((seconds for part, seconds in slow.items() if part in path), 0))
        return read(path, **request)

    first.audio = audio


if "pipeline.worker" in sys.orig_argv:
    _slow_readers()
elif "pipeline.extract" in sys.orig_argv:
    (shard,) = (int(sys.orig_argv[i + 1]) for i, word in enumerate(sys.orig_argv) if word == "--shard")
    marker = FOLDER / f"exit-{shard}"
    if marker.exists():
        marker.unlink()
        os._exit(1)
