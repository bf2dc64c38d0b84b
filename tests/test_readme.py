"""The README is true: its table is the committed measurement, its files and commands exist."""

import re

from bench import tables
from tests.commands import ROOT

README = (ROOT / "README.md").read_text()


def test_bench_tables_are_the_measurements():
    for path in tables.FILES:
        text = path.read_text()
        assert text == tables.filled(text), "run `python -m bench.tables`"


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    titles = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= titles


def test_named_modules_exist():
    for name in set(re.findall(r"python -m ([a-z_]+\.[a-z_0-9]+)", README)):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", README.split("```")[1])):
        assert re.search(rf"^{target}:", makefile, re.M), target
