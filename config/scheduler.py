"""One Snakemake a results folder, and no jobs of one that died. Used by the rules when a run starts, never by its jobs.

Reads and writes `work/snakemake.claim`; asks Slurm's `squeue`, and `scancel`s. A Snakemake that was killed leaves its
jobs in the queue; they would work on the same shards as the new one's. What they have finished is kept in the journals.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path
from sys import stderr

from config.cli import UserError

WAIT = 120
"""Seconds that cancelled jobs may take to end (Slurm's KillWait is 30 by default)."""


def job_prefix(results: Path) -> str:
    """What the names of all jobs of one results folder begin with: letters, digits and hyphens."""
    return f"features-{hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:12]}"


def cancel_leftovers(prefix: str) -> None:
    """Cancel the jobs that a dead Snakemake of the same results has left, and wait for their end.

    UserError if Slurm does not answer, or if they do not end.
    """
    left = _jobs(prefix)
    if left:
        # Printed, because Snakemake shows no other loggers than its own.
        print(f"cancelling {len(left)} jobs that a killed Snakemake has left; what they have done is kept", file=stderr)
        _ask("scancel", *left)
    end = time.monotonic() + WAIT
    while left:
        if time.monotonic() > end:
            raise UserError(f"the jobs {' '.join(left)} do not end; `scancel` them and run again")
        time.sleep(1)
        left = _jobs(prefix)


def _jobs(prefix: str) -> list[str]:
    """Numbers of this user's jobs in the queue, or still ending, whose names begin with `prefix`."""
    lines = (line.split() for line in _ask("squeue", "--me", "--noheader", "--format=%i %j").splitlines())
    return [number for number, name in lines if name.startswith(f"{prefix}_")]


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or error
        raise UserError(f"Slurm does not answer `{command[0]}`: {words}; run again when it does") from None
