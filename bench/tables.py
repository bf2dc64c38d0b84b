"""The benches' tables in README.md and docs/.

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
    ablation,
    atlas,
    clips,
    decode,
    demo,
    duplicates_tables,
    extract,
    images,
    keyframes,
    media_table,
    modes,
    moments,
    nulls,
    paper_code,
    passes,
    plan,
    query,
    ranks,
    recipe,
    robustness_tables,
    scaling,
    shards,
    slurm,
    store,
    study,
    train,
    workflow,
)
from bench.load import table as load_table
from bench.measure import RESULTS, ROOT, load
from config.cli import UserError, run

PAGES = ("atlas", "performance", "query", "robustness", "study")
FILES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in PAGES))
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "demo": ("demo", demo.table),
    "decode": ("decode", decode.table),
    "keyframes": ("keyframes", keyframes.table),
    "shards": ("shards", shards.table),
    "shards-index": ("shards", shards.index_words),
    "reads": ("passes", passes.reads_table),
    "passes": ("passes", passes.table),
    "extract": ("extract", extract.table),
    "baseline": ("extract", extract.baseline_table),
    "modes": ("modes", modes.table),
    "images": ("images", images.table),
    "scaling": ("scaling", scaling.table),
    "workflow": ("workflow", workflow.table),
    "slurm": ("slurm", slurm.table),
    "store-load": ("store", store.load_table),
    "store-rows": ("store", store.rows_table),
    "store-chunks": ("store", store.chunk_table),
    "store-codecs": ("store", store.codec_table),
    "store-growth": ("store", store.growth_words),
    "ranks": ("ranks", ranks.table),
    "atlas": ("atlas", atlas.table),
    "query-size": ("query", query.table_of_size),
    "query-audio": ("query", query.table_of_audio),
    "moments": ("moments", moments.table),
    "copies": ("duplicates", duplicates_tables.table),
    "copies-thresholds": ("duplicates", duplicates_tables.thresholds_table),
    "copies-cost": ("duplicates", duplicates_tables.cost_words),
    "nulls": ("nulls", nulls.table),
    "study": ("study", study.table),
    "ablation": ("ablation", ablation.table),
    "ablation-findings": ("ablation", ablation.findings),
    "clips": ("clips", clips.table),
    "clips-lead": ("clips", clips.lead),
    "paper-code": ("paper_code", paper_code.table),
    "paper-cache": ("paper_code", paper_code.cache_table),
    "paper-table-1": ("paper_code", paper_code.table1),
    "paper-checkpoint": ("paper_code", paper_code.checkpoint),
    "paper-lead": ("paper_code", paper_code.lead),
    "recipe": ("recipe", recipe.table),
    "training": ("training", train.table),
    "load": ("load", load_table),
    "cost": ("extract", plan.readme_table),
    "faults": ("faults", robustness_tables.faults),
    "kills": ("kills", robustness_tables.kills),
    "memory": ("memory", robustness_tables.memory),
    "remote": ("remote", robustness_tables.remote),
    "timelines": ("timelines", robustness_tables.timelines),
    "media": ("media_table", media_table.table),
}
"""Mark: (result file, what makes its table)."""


def bars() -> str:
    """Return every result's bars in one table."""
    lines = ["| measure | measured | bar | |", "|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        for line in json.loads(path.read_text(encoding="utf-8")).get("bars", []):
            value = f"{line['value']:.0f}" if line["value"] >= 100 else f"{line['value']:.3g}"
            lines.append(f"| {line['measure']} | {value} | {line['bar']} | {'' if line['met'] else 'limit'} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return the text with every table between its marks. UserError where a result is missing."""
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
    before, after = text.split(first)
    return f"{before}{first}\n{table}\n{last}{after.split(last)[1]}"


def main() -> None:
    """Write the tables."""
    for path in FILES:
        path.write_text(filled(Path(path).read_text(encoding="utf-8")))


if __name__ == "__main__":
    run(main)
