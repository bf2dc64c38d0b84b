"""The study's page from made-up answers: hostile text stays text, tables become CSV files, nothing is loaded."""

from __future__ import annotations

import csv
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from config.cli import UserError
from config.model import Config
from config.study import Study
from eval.report.plots.base import Plot, figure, save, styled
from study import QUESTIONS
from study import __main__ as study
from study.answer import Answer, write_answer
from study.page import ROWS, shown
from tests.support.answers import answer
from tests.support.page import EVIL, Tags
from tests.support.simulate import simulate


def plot(made: Answer, folder: Path) -> list[Plot]:
    with styled():
        drawn = figure()
        drawn.subplots().plot([1, 2], label=EVIL)
        return [save(drawn, folder, f"study-{made.part}-line", f"A line of {EVIL}")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return simulate(tmp_path_factory.mktemp("study"), videos=30, study={"questions": list(QUESTIONS)})


@pytest.fixture(scope="module")
def page(config: Config) -> Path:
    for part in QUESTIONS:
        write_answer(config.paths, answer(part, random=part == "fusion"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(study, "draw", plot)
        return study.study(config)


def test_text_of_answers_is_escaped(page: Path) -> None:
    html = page.read_text()
    tags = Tags(html).tags
    assert "onerror" in html and "&lt;script&gt;" in html
    assert not any("onerror" in attributes for _, attributes in tags)
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base", "form"}


def test_the_page_loads_nothing_and_its_links_lead_somewhere(page: Path) -> None:
    tags = Tags(page.read_text()).tags
    images = [a["src"] or "" for tag, a in tags if tag == "img"]
    assert len(images) == len(QUESTIONS) and all(src.startswith("data:image/") for src in images)
    ids = {a["id"] for _, a in tags if "id" in a}
    links = [a["href"] or "" for tag, a in tags if tag == "a"]
    assert len(links) == 4 * len(QUESTIONS)  # each part's summary and tables
    for link in links:
        assert link[1:] in ids if link.startswith("#") else (page.parent / link).exists(), link


def test_every_part_has_its_section_in_order(page: Path) -> None:
    html = page.read_text()
    sections = re.findall(r'<section id="(\w+)">', html)
    assert tuple(sections) == QUESTIONS
    for part in QUESTIONS:
        section = html[html.index(f'<section id="{part}">') :].split("</section>")[0]
        assert f"Claim of {part}" in section and "How sure: interval" in section
        assert f"python -m study.{part}.measure --config" in section and "Seeds 0, 1." in section
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


def test_every_question_has_its_folder_with_the_same_files_and_its_section() -> None:
    folder = Path(study.__file__).parent
    assert {path.parent.name for path in folder.glob("*/rules.smk")} == set(QUESTIONS)
    for question in QUESTIONS:
        assert all((folder / question / f"{name}.py").exists() for name in ("measure", "text", "plots"))
        assert f"python -m study.{question}.measure" in (folder / question / "rules.smk").read_text()
        assert find_spec(f"study.{question}.measure")
    assert set(Study.model_fields) == {"questions", "seeds", *QUESTIONS}


def test_only_the_questions_of_the_configuration_are_asked_in_the_page_s_order() -> None:
    assert study.asked(Study(questions=["relations", "correlation"])) == ["correlation", "relations"]


def test_a_missing_answer_is_named(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"correlation\.json does not exist; run `snakemake study"):
        study.study(config.model_copy(update={"results": str(tmp_path)}))
