"""The benches' tables in the READMEs.

    python -m bench.tables

Reads bench/results/*.json; writes what stands between the marks of the same names in the documents below. A
test fails when they have drifted apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import (
    decode,
    demo,
    extract_tables,
    media_table,
    modes,
    moments,
    plan,
    ranks,
    robustness_tables,
    slurm_table,
    store_tables,
    study,
    train,
    workflow,
)
from bench.measure import RESULTS, ROOT, load
from config.cli import UserError, run

FILES = (ROOT / "README.md", ROOT / "bench" / "README.md", ROOT / "bench" / "ROBUSTNESS.md")
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "demo": ("demo", demo.table),
    "decode": ("decode", decode.table),
    "extract": ("extract", extract_tables.extract_table),
    "baseline": ("extract", extract_tables.baseline_table),
    "modes": ("modes", modes.table),
    "workflow": ("workflow", workflow.table),
    "slurm": ("slurm", slurm_table.table),
    "store-load": ("store", store_tables.load_table),
    "store-rows": ("store", store_tables.rows_table),
    "store-chunks": ("store", store_tables.chunk_table),
    "store-codecs": ("store", store_tables.codec_table),
    "store-growth": ("store", store_tables.growth_words),
    "ranks": ("ranks", ranks.table),
    "moments": ("moments", moments.table),
    "study": ("study", study.table),
    "training": ("training", train.table),
    "cost": ("extract", plan.readme_table),
    "faults": ("faults", robustness_tables.faults),
    "kills": ("kills", robustness_tables.kills),
    "memory": ("memory", robustness_tables.memory),
    "media": ("media_table", media_table.table),
}
"""Mark: (result file, what makes its table)."""


def bars() -> str:
    """Every result's bars in one table."""
    lines = ["| measure | measured | bar | |", "|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        for each in json.loads(path.read_text()).get("bars", []):
            value = f"{each['value']:.0f}" if each["value"] >= 100 else f"{each['value']:.3g}"
            lines.append(f"| {each['measure']} | {value} | {each['bar']} | {'' if each['met'] else 'missed'} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """The text with every table between its marks. UserError where a result is missing."""
    for mark, (name, make) in TABLES.items():
        first, last = f"<!-- {mark}: written by python -m bench.tables -->", f"<!-- end of {mark} -->"
        if first not in text:
            continue
        result = load(name)
        if result is None:
            raise UserError(f"bench/results/{name}.json does not exist; run `make bench`")
        text = _put(text, first, last, make(result))
    first, last = "<!-- bars: written by python -m bench.tables -->", "<!-- end of bars -->"
    return _put(text, first, last, bars()) if first in text else text


def _put(text: str, first: str, last: str, table: str) -> str:
    before, rest = text.split(first)
    return f"{before}{first}\n{table}\n{last}{rest.split(last)[1]}"


def main() -> None:
    """Write the tables."""
    for path in FILES:
        path.write_text(filled(Path(path).read_text()))


if __name__ == "__main__":
    run(main)
