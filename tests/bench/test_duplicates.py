"""The bench of near-duplicates: what it counts, and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import duplicates, duplicates_cost, measure
from bench.duplicates import THRESHOLDS, bars
from bench.duplicates_tables import cost_words, table, thresholds_table
from config.pipeline import Duplicates
from pipeline.duplicates.space import Stored, unit


@pytest.fixture
def space(tmp_path: Path) -> Stored:
    """Ten videos of two equal segments along the axes; the last is 0.8 like the first."""
    vectors = np.eye(10, dtype=np.float32)
    vectors[9, 0] = 4 / 3
    vectors = unit(vectors)
    stored = Stored(tmp_path, "x", 10, 2, 10)
    vectors.tofile(stored.path("means"))
    np.repeat(vectors[:, None], 2, axis=1).astype(np.float16).tofile(stored.path("segments"))
    return stored


def test_found_and_false_are_counted_at_each_threshold(space):
    different = np.array([[0, 1], [0, 9], [2, 3]])
    counted = duplicates._of_pairs([space], {"encoded": np.array([[4, 4], [0, 9], [5, 6]])}, different)
    assert counted["largest_false"] == pytest.approx(0.8, abs=1e-3)
    assert counted["false"] == [int(t < 0.8) for t in THRESHOLDS]
    line = counted["kinds"]["encoded"]
    assert line["found"] == [1 + int(t < 0.8) for t in THRESHOLDS]


def test_bare_products_are_timed(space, monkeypatch):
    monkeypatch.setattr(duplicates_cost, "BARE_TILES", 4)
    monkeypatch.setattr(duplicates_cost, "TILE", 5)
    assert duplicates_cost.bare(space) > 0


def test_block_rows_stand_for_the_whole(monkeypatch):
    monkeypatch.setattr(duplicates_cost, "BARE_TILES", 4)
    monkeypatch.setattr(duplicates_cost, "TILE", 50)
    monkeypatch.setattr("pipeline.duplicates.search.TILE", 50)
    rows = duplicates_cost.of_block_rows("430")
    assert (rows["measured_tiles"], rows["tiles"]) == (9 + 8, 45)
    assert rows["searching"] == pytest.approx(rows["measured"] * 45 / 17) and rows["alike_means"] < 10


def test_tables_show_the_default_threshold():
    result = measure.load("duplicates")
    assert result is not None
    place = THRESHOLDS.index(Duplicates().threshold)
    first = next(iter(result["sets"].values()))
    copies_found = first["on"]["audio"]["kinds"]["encoded"]["found"][place]
    encoded = next(line for line in table(result).splitlines() if line.startswith("| encoded again"))
    assert encoded.split("|")[2].strip() == f"{copies_found} of {first['readable']['encoded']}"
    merged = [line["false"] for line in result["demo"]["on"].values()]
    assert all(counts == sorted(counts, reverse=True) for counts in merged)
    shown = next(
        line for line in thresholds_table(result).splitlines() if line.startswith(f"| {THRESHOLDS[place]:g} |")
    )
    assert [shown.split("|")[-2].strip()] == [str(merged[-1][place])]
    assert "550,000 videos" in cost_words(result)
    assert [line["measure"] for line in bars(result)] == [line["measure"] for line in result["bars"]]
