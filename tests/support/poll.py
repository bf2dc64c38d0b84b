"""Snakemake whose Slurm plugin asks for the state of its jobs every second, for tests only.

    python -m tests.support.poll …        as `python -m snakemake …`

The plugin waits ten seconds longer after every look at which nothing has ended, up to three minutes, and has no setting
for it.
"""

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


class Steady:
    """A number of seconds that cannot be changed."""

    def __get__(self, executor, kind=None) -> float:
        return 1.0

    def __set__(self, executor, seconds: float) -> None:
        pass


RemoteExecutor.next_seconds_between_status_checks = Steady()

if __name__ == "__main__":
    main()
