"""Freed memory is kept for the next equal block instead of being mapped and cleared again."""

from __future__ import annotations

import sys

import pytest

from tests.support.commands import execute

# Page faults of taking and freeing 16 MiB twenty times, after the first.
FAULTS = """
import resource, sys
import numpy as np
from config.memory import keep_freed_memory
keep_freed_memory(*map(int, sys.argv[1:]))
def work():
    np.empty(16 << 20, np.uint8)[:] = 1
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(("limits", "kept"), [(["33554432"], True), (["131072", "131072"], False)])
def test_freed_memory_is_kept(limits: list[str], kept: bool) -> None:
    done = execute([sys.executable, "-c", FAULTS, *limits])
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) < 100) == kept, done.stdout
