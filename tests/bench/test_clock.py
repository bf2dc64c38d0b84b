"""Waiting and measuring go by the monotonic clock (tests/workflow/test_disk.py has the wall clock jump)."""

import ast

from bench.runs import ROOT


def test_nothing_asks_for_the_wall_clock():
    """What the extraction measures and waits for goes by the monotonic clock.

    Only lines of progress carry the time, for people. `pipeline.status` compares by the file server's clock, and asks
    this machine's where the results can only be read. Whether a file is at rest (config/digests.py) decides only
    whether its digest is kept. A request to a server has the date in its signature, and `Retry-After` may be a date.
    """
    found = []
    forbidden = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "config").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in forbidden:
                    found.append((path.name, f"{node.value.id}.{node.attr}"))
    assert {name for name, _ in found} == {
        "cli.py",
        "digests.py",
        "heartbeat.py",
        "request.py",
        "signing.py",
        "status.py",
    }
