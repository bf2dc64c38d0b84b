"""docs/notebook.ipynb: its code runs on another results folder than the one that its outputs are of."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.support.commands import ROOT, execute

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
RESULTS = 'results = "../results/demo"'
MOST_CELLS, MOST_BYTES = 15, 300_000


def cells(kind: str) -> list[dict[str, Any]]:
    """Return the notebook's cells of a kind, `code` or `markdown`."""
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of change, in ns, of every file."""
    statuses = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path): (status.st_size, status.st_mtime_ns) for path, status in statuses.items()}


def test_every_cell_runs_and_nothing_is_written(demo, tmp_path: Path) -> None:
    results = demo[0] / "results"
    code = [source(cell) for cell in cells("code")]
    assert code[0].count(RESULTS) == 1, "the tests replace this line"
    code[0] = code[0].replace(RESULTS, f"results = {str(results)!r}")
    script = tmp_path / "cells.py"
    script.write_text("\n".join(code))
    before = state(results)
    # Jupyter starts a notebook in its own folder, with the packages that are installed and no others.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"MPLBACKEND": "agg"}
    done = execute([sys.executable, script], cwd=NOTEBOOK.parent, env=environment, check=True)
    assert state(results) == before
    assert "30 videos of 2 segments; the experiment is baseline" in done.stdout
    assert "r2plus1d: video, 512 numbers a segment, 30 videos, RANDOM weights" in done.stdout
    assert re.search(r"^median rank +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d$", done.stdout, re.M)
    assert done.stdout.count("its audio → the video of") == 1


def test_it_is_short_and_its_outputs_are_of_one_run() -> None:
    written = NOTEBOOK.read_text()
    assert len(json.loads(written)["cells"]) <= MOST_CELLS
    assert len(written) <= MOST_BYTES
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    # Warnings and the log go there.
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == written.count("plt.show()")


def test_it_names_no_place_of_a_machine() -> None:
    shown = [source(cell) for cell in cells("markdown") + cells("code")]
    shown += ["".join(output.get("text", "")) for cell in cells("code") for output in cell["outputs"]]
    assert not [text for text in shown if re.search(r"(^|[\s'\"(])/\w|\b[A-Z]:\\", text)]


def test_its_links_lead_somewhere() -> None:
    links = [link for cell in cells("markdown") for link in re.findall(r"\]\(([^)#]+)", source(cell))]
    assert links and all((NOTEBOOK.parent / link).exists() for link in links)
