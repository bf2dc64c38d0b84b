"""Cancel Slurm jobs that a killed Snakemake has left. Used by the rules when a pass starts, never by its jobs.

Reads Slurm's `squeue` and calls `scancel`. Left jobs would work on the same shards as the new ones; what they have
finished is kept in the journals.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path
from sys import stderr

from config.cli import UserError

WAIT = 120
"""Longest time in seconds for cancelled jobs to end (Slurm's KillWait is 30 by default)."""


def job_prefix(results: Path) -> str:
    """Return the prefix of the names of all jobs of a results folder: letters, digits and hyphens."""
    return f"features-{hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:12]}"


def cancel_leftovers(prefix: str) -> None:
    """Cancel the jobs whose names begin with `prefix` and wait for their end.

    UserError if Slurm does not answer, or if the jobs do not end.
    """
    left = _jobs(prefix)
    if left:
        # Printed, because Snakemake shows no other loggers than its own.
        print(f"cancelling {len(left)} jobs that a killed Snakemake has left; what they have done is kept", file=stderr)
        _output("scancel", *left)
    end = time.monotonic() + WAIT
    while left:
        if time.monotonic() > end:
            raise UserError(f"the jobs {' '.join(left)} do not end; `scancel` them and run again")
        time.sleep(1)
        left = _jobs(prefix)


def _jobs(prefix: str) -> list[str]:
    """Return the ids of this user's jobs, pending, running or ending, whose names begin with `prefix`."""
    lines = _output("squeue", "--me", "--noheader", "--format=%i %j").splitlines()
    # All of the user's jobs are listed, and other names may have blanks.
    parted = (line.strip().partition(" ") for line in lines)
    return [job for job, _, name in parted if name.startswith(f"{prefix}_")]


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise UserError(f"Slurm does not answer `{command[0]}`: {reason}; run again when it does") from None
