"""README.md and docs/ are true: tables are the committed measurements, files, modules, keys and reasons exist."""

import ast
import re
from functools import cache

import pytest

from bench import tables
from config import reference
from pipeline.readers import REASONS
from tests.support.commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_bench_tables_are_the_measurements():
    for path in tables.FILES:
        text = path.read_text(encoding="utf-8")
        assert text == tables.filled(text), "run `python -m bench.tables`"


def test_every_table_stands_somewhere():
    texts = "".join(path.read_text(encoding="utf-8") for path in tables.FILES)
    assert not [mark for mark in (*tables.TABLES, "bars") if f"<!-- {mark}: written by" not in texts]


def test_every_key_is_on_the_page_of_the_configuration():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run `python -m config.reference`"


def test_every_reason_is_explained():
    text = (ROOT / "docs" / "videos.md").read_text(encoding="utf-8")
    for name, reason in REASONS.items():
        assert f"| `{name}` | {reason.kind} | {reason.meaning} |" in text


class Texts(ast.NodeVisitor):
    """Collect the string constants of a module in their order, each value of an f-string as `…`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.texts.append(node.value)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:
        self.texts.append("…")


@cache
def printed_texts() -> str:
    """Return all texts that the programs can print: strings of modules and rules, and the report's templates."""
    texts = []
    for package in ("config", "data", "pipeline", "heads", "eval", "study"):
        for path in sorted((ROOT / package).rglob("*.py")):
            visitor = Texts()
            visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
            texts.append("".join(visitor.texts))
        for path in sorted((*(ROOT / package).rglob("*.html"), *(ROOT / package).rglob("*.smk"))):
            texts.append(re.sub(r"\{[^{}]*\}", "…", path.read_text(encoding="utf-8")))
    return "\n".join(texts)


@pages
def test_quoted_messages_are_printed(page):
    quoted = re.findall(r"\*\*`([^`]+)`", page.read_text(encoding="utf-8"))
    assert quoted or page.name != "troubleshooting.md"
    for message in quoted:
        for fragment in re.split("…", message):
            assert fragment.strip(" .:") in printed_texts(), f"{fragment!r} of {message!r}"


@pages
def test_linked_files_exist(page):
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pages
def test_named_modules_exist(page):
    for name in set(re.findall(r"python -m ([a-z_]+\.[a-z_0-9]+)", page.read_text(encoding="utf-8"))):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


@pages
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^(?:`?make) ([a-z]+)|`make ([a-z]+)", page.read_text(encoding="utf-8"), re.M)):
        assert re.search(rf"^{''.join(target)}:", makefile, re.M), target


@pages
def test_named_files_of_the_project_exist(page):
    rooms = "bench|config|data|eval|heads|pipeline|profiles|study|tests"
    for name in set(re.findall(rf"`((?:{rooms})/[\w/.-]+\.\w+)`", page.read_text(encoding="utf-8"))):
        assert "QUESTION" in name or (ROOT / name).exists(), name


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
