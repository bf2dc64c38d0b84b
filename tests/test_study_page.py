"""The study's page from made-up answers: hostile text stays text, tables become CSV files, nothing is loaded."""

from __future__ import annotations

import csv
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from eval.report.plots.base import Plot, figure, save, styled
from eval.study import __main__ as study
from eval.study.answer import PARTS, Answer, Finding, write_answer
from eval.study.page import ROWS, shown
from tests.simulate import simulate
from tests.test_report import EVIL, Tags


def answer(part: str, random: bool = True, words: str = EVIL) -> Answer:
    """A made-up answer, hostile throughout."""
    rows = [
        {"genre": words, "rank": 3.5 + i, "rank_low": 1.0, "rank_high": 7.25, "p": 1e-7, "better": i > 0}
        for i in range(ROWS + 3)
    ]
    return Answer(
        part=part,
        title=f"{part} {words}",
        question=f"Is {words} so?",
        findings=[Finding(f"Claim of {part} in `{words}`", f"interval {words}"), Finding("Second", "not at all")],
        method=f"By {words}.",
        limits=[f"Not {words}"],
        random_weights=["r2plus1d"] if random else [],
        seeds=[0, 1],
        command=f"python -m eval.study.{part} --config '{words}'",
        tables={"ranks": rows, "mixed": [{"value": 0.25, "low": None, "high": None, "what": ["a", words]}], "none": []},
    )


def plot(made: Answer, folder: Path) -> list[Plot]:
    with styled():
        drawn = figure()
        drawn.subplots().plot([1, 2], label=EVIL)
        return [save(drawn, folder, f"study-{made.part}-line", f"A line of {EVIL}")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return simulate(tmp_path_factory.mktemp("study"), videos=30)


@pytest.fixture(scope="module")
def page(config: Config) -> Path:
    for part in PARTS:
        write_answer(Paths(Path(config.results)), answer(part, random=part == "fusion"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(study, "draw", plot)
        return study.study(config)


def test_text_of_answers_is_escaped(page: Path) -> None:
    html = page.read_text()
    tags = Tags(html).found
    assert "onerror" in html and "&lt;script&gt;" in html
    assert not any("onerror" in attributes for _, attributes in tags)
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base", "form"}


def test_the_page_loads_nothing_and_its_links_lead_somewhere(page: Path) -> None:
    tags = Tags(page.read_text()).found
    pictures = [a["src"] or "" for tag, a in tags if tag == "img"]
    assert len(pictures) == len(PARTS) and all(src.startswith("data:image/") for src in pictures)
    ids = {a["id"] for _, a in tags if "id" in a}
    links = [a["href"] or "" for tag, a in tags if tag == "a"]
    assert len(links) == 4 * len(PARTS)  # each part's summary and tables
    for link in links:
        assert link[1:] in ids if link.startswith("#") else (page.parent / link).exists(), link


def test_every_part_has_its_section_in_order(page: Path) -> None:
    html = page.read_text()
    found = re.findall(r'<section id="(\w+)">', html)
    assert tuple(found) == PARTS
    for part in PARTS:
        section = html[html.index(f'<section id="{part}">') :].split("</section>")[0]
        assert f"Claim of {part}" in section and "How sure: interval" in section
        assert f"python -m eval.study.{part} --config" in section and "Seeds 0, 1." in section
        assert ("come from random weights" in section) == (part == "fusion")
    assert "r2plus1d ran on random weights" in html


def test_all_rows_are_in_the_tables_files(page: Path) -> None:
    with open(page.parent / "tables" / "study-length-ranks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS + 3 and rows[4]["genre"] == EVIL and float(rows[4]["rank"]) == 7.5
    assert (page.parent / "plots" / "study-length-line.png").exists()


def test_intervals_stand_beside_their_values() -> None:
    table = shown(answer("length"), "ranks")
    assert table.columns == ["genre", "rank", "p", "better"]
    assert (len(table.rows), table.total) == (ROWS, ROWS + 3)
    assert [(c.text, c.interval) for c in table.rows[0][1:]] == [("3.5", "[1, 7.25]"), ("< 0.001", ""), ("no", "")]
    mixed = shown(answer("length", words="b"), "mixed")
    assert [c.text for c in mixed.rows[0]] == ["0.250", '["a", "b"]']  # no interval was measured, none is shown
    assert shown(answer("length"), "none").rows == []


def test_every_part_that_is_measured_has_plots() -> None:
    measured = [part for part in PARTS if find_spec(f"eval.study.{part}")]
    assert measured and all(find_spec(f"eval.study.plots.{part}") for part in measured)


def test_a_missing_answer_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"correlation\.json does not exist; run `snakemake study"):
        study.study(config.model_copy(update={"results": str(tmp_path)}))
