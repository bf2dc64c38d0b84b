"""How OpenMP threads wait for each other. Reads and sets environment variables, nothing else.

PyTorch computes in OpenMP threads, which wait for the slowest at the end of each step. By default a waiting thread
spins for milliseconds before it gives up its core. With other work on the machine, the slowest thread then gets no
core, and training takes ten times as long. So threads spin for microseconds only, and then sleep. Results do not
change.

`config/__init__.py` calls this, and every package that loads PyTorch imports `config` first, because OpenMP reads the
variables once, when PyTorch loads it.
"""

from __future__ import annotations

import os

POLICY = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""`passive` alone (no spinning) costs an idle machine some percent; 1,000 spins cost next to nothing (`bench.load`),
and are too few to matter on a busy one. GNU's OpenMP, part of PyTorch's wheels, reads the second variable; Intel's and
LLVM's read the first."""
NAMES = frozenset({*POLICY, "KMP_BLOCKTIME"})
"""Environment variables that set how threads wait."""


def wait_briefly() -> None:
    """Set the policy for this process and its children, unless the user has set one of the variables."""
    if NAMES.isdisjoint(os.environ):
        os.environ.update(POLICY)
