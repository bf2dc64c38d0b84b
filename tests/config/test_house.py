"""The tests themselves: they import helpers, and no other tests."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.commands import ROOT


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def test_tests_import_helpers_and_no_tests():
    imports = {path: imported(path) for path in (ROOT / "tests").rglob("*.py")}
    names = {
        f"{path.relative_to(ROOT)}: {name}" for path in imports for name in imports[path] if name.startswith("tests.")
    }
    assert names and not {name for name in names if ": tests.support" not in name}
