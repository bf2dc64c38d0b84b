"""What the documents say of the authors' code is what the committed result has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import paper_code
from bench.measure import load
from config.paths import Paths
from config.study.paper_code import PAPER_COMMIT
from study.answer import Answer, Finding, write_answer
from study.paper_code.text import rows_of


def test_the_result_is_of_the_examined_commit_and_shows_what_the_texts_say() -> None:
    result = load("paper_code")
    assert result is not None
    tables = result["tables"]
    assert result["code"] == f"commit {PAPER_COMMIT[:7]}" and all(row["examined"] for row in tables["code"])
    assert all(row["inside"] and not row["equal"] for row in tables["table1"])
    assert all(row["their_median_rank_v2a"] == row["their_median_rank_a2v"] for row in tables["runs"])
    for row in rows_of(tables["curves"], "simulated"):
        assert 46 < row["theirs_percent_least"] <= row["theirs_percent_most"] < 54
        assert (row["true_percent"] > 45) == (row["correlation"] == 0)
    for model in ("baseline", "single_head"):
        line = [row["true_percent"] for row in rows_of(tables["curves"], "simulated", model)]
        assert line == sorted(line, reverse=True) and line[-1] < 0.3
    assert paper_code.FIGURE.stat().st_size < 150_000


def test_tables_and_figure_come_from_the_result_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = load("paper_code")
    assert result is not None
    correlations = {row["correlation"] for row in rows_of(result["tables"]["curves"], "simulated")}
    assert len(paper_code.table(result).splitlines()) == 2 + len(correlations) + 1
    assert len(paper_code.cache_table(result).splitlines()) == 2 + 2
    # What three trainings on one cache say has an interval, which may contain chance.
    (cached,) = (line for line in paper_code.cache_table(result).splitlines() if line.startswith("| baseline |"))
    assert "| 27 [23, 32], seeds [1, 60] |" in cached and "| 9.20 [8.57, 9.82] |" in cached
    assert "| baseline | 507 / 502 | 489 to 510 | no |" in paper_code.table1(result)
    assert paper_code.checkpoint(result).startswith("The published checkpoint `Single_proj_head.tar`")
    monkeypatch.setattr(paper_code, "FIGURE", tmp_path / "figure.png")
    paper_code.figure(result)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_the_result_file_is_made_from_an_answer(tmp_path: Path) -> None:
    result = load("paper_code")
    assert result is not None
    findings = [Finding(f["claim"], f["sure"]) for f in result["findings"]]
    tables = result["tables"] | {"epochs": []}
    texts = {"title": "", "question": "", "method": "", "command": ""}
    answer = Answer(
        "paper_code", findings=findings, limits=[], random_weights=[], seeds=[0, 1, 2], tables=tables, **texts
    )
    curves, runs = ([row for row in tables[name] if row["source"] == "cache"] for name in ("curves", "runs"))
    assert curves and runs
    simulated = {name: [r for r in tables[name] if r["source"] == "simulated"] for name in ("curves", "runs")}
    write_answer(Paths(tmp_path / "a"), replace(answer, tables=tables | simulated))
    write_answer(Paths(tmp_path / "b"), answer)
    made = paper_code.measure_all(tmp_path / "a", tmp_path / "b")
    assert made == {name: result[name] for name in made}
