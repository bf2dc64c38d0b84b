"""Shard jobs that give no sign of life: hung, silent or killed, and whose they were. Reads claims and signs of life."""

from __future__ import annotations

from dataclasses import dataclass

from config.cli import clock
from config.paths import Paths
from pipeline.claim import Holder, holder
from pipeline.heartbeat import PATIENCE, Dump, last, last_dump

SPARE = 120.0
"""Seconds that a job which hangs may take beyond its patience to say where."""
SHOWN = 40
"""Lines of a hung job's stacks that are shown; the file has them all."""


@dataclass(frozen=True)
class Lifeless:
    """A job of a shard without a sign of life."""

    shard: int
    state: str
    """`hung`: it has ended itself and said where it stood. `silent`: it is there, or may be. `killed`: it is gone."""
    why: str
    """Reason for the state."""
    host: str | None
    process: int | None
    job: str | None
    """Its Slurm job."""
    begun: str | None
    """When it began, by its own machine's clock."""
    seconds: float
    """Since its last sign of life, by the file server's clock."""
    stacks: str | None = None
    """First lines of its threads' stacks."""
    file: str | None = None
    """File with all of the stacks."""

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        who = f"process {self.process} on {self.host}{job}" if self.process else f"a job on {self.host}{job}"
        text = (
            f"shard {self.shard} {self.state}: {who}, begun {self.begun}, last sign of life {clock(self.seconds)} ago"
        )
        text += f"; {self.why}"
        if self.stacks is not None:
            text += "".join(f"\n    {line}" for line in self.stacks.splitlines())
        return text


def lifeless(paths: Paths, part: str, shard: int, now: float, seconds: float) -> Lifeless:
    """Return what is known of a job without a sign of life for `seconds`; `now`: the file server's time.

    A dump of the job itself decides; then whether its process exists, which only its own machine knows. From other
    machines a job counts as silent until a hung one would have dumped its stacks, and as killed after that.
    """
    begun = last(paths.progress(part, shard), "started") or {}
    claimed = holder(paths.shard_claim(part, shard), now)
    # A job that computes several parts in one pass writes one dump.
    stood = paths.hung(begun.get("with", part), shard)
    dump = last_dump(stood)
    if dump is not None and "with" in begun and f"process {begun['process']} on {begun['host']}" not in dump.title:
        dump = None  # of a job that computed the other part alone
    state, why = _state(claimed, dump, begun.get("patience", PATIENCE), seconds)
    stacks, file = None, None
    if dump is not None and dump.latest:
        lines, file = dump.stacks.splitlines(), str(stood)
        more = len(lines) - SHOWN
        stacks = "\n".join(lines[:SHOWN] + ([f"… and {more} lines more in {file}"] if more > 0 else []))
    host, process = begun.get("host"), begun.get("process")
    if claimed is not None and claimed.host is not None:
        host, process = claimed.host, claimed.process
    return Lifeless(shard, state, why, host, process, begun.get("job"), begun.get("time"), seconds, stacks, file)


def _state(claimed: Holder | None, dump: Dump | None, patience: float, seconds: float) -> tuple[str, str]:
    """Return the state of a job without a sign of life for `seconds`, and the reason for it."""
    if dump is not None and dump.latest:
        return "hung", "it finished no video for too long, and ended itself; where its threads stood:"
    left = patience + SPARE - seconds
    ends = f"if it hangs, it ends itself and says where within {clock(left)}" if left > 0 else ""
    if claimed is None:
        return "killed", "it has given the shard up without a word"
    if claimed.here and not claimed.alive:
        return "killed", "its process is gone"
    if claimed.alive:
        there = "its process is there" if claimed.here else "it shows signs of holding the shard"
        return "silent", f"{there}; " + (ends or "it should have ended itself by now; look at it on its host")
    if left > 0:
        return "silent", f"killed, its machine is gone, or it hangs; {ends}"
    return "killed", "or its machine is gone: a job that hangs would have said where by now"


def earlier(paths: Paths, part: str, shard: int, dump: Dump) -> str:
    """Describe a job that hung on a shard before the present or last one."""
    return f"{dump.title.partition(' has begun')[0]} began and hung; where it stood: {paths.hung(part, shard)}"
