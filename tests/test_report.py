"""The report on a simulated cache: text from data is escaped, missing videos and missing heads are said."""

import csv
import html.parser
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from config.model import Config
from config.paths import Paths
from data.manifest import read_manifest, write_manifest
from eval.neighbours import neighbours
from eval.report.__main__ import number, report
from eval.retrieval import retrieval
from heads.embed import embed
from heads.train import train
from pipeline import index
from tests.simulate import simulate

EVIL = "<img src=x onerror=alert(1)>&\"'"


def relabel(config: Config) -> None:
    """Give every video a hostile id and genre."""
    paths = Paths(Path(config.results))
    table = read_manifest(paths.manifest)
    for column, different in (("video_id", table.num_rows), ("genre", 3)):
        evil = pa.array([f"{EVIL}{i % different}" for i in range(table.num_rows)])
        table = table.set_column(table.column_names.index(column), column, evil)
    write_manifest(paths, table)


def close(config: Config) -> None:
    """Write features.json and failures.csv, as the stage `pipeline.index` does."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["index", "--config", str(Paths(Path(config.results)).config)])
        index.main()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    experiments = {"experiments": {"baseline": {"max_epochs": 2}}}
    config = simulate(tmp_path_factory.mktemp("report"), videos=300, heads=experiments)
    train(config, "baseline")
    embed(config, "baseline")
    relabel(config)
    retrieval(config, "baseline")
    neighbours(config, "baseline")
    close(config)
    return report(config).read_text()


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_text_from_data_is_escaped(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert "onerror" in page  # the hostile labels are shown ...
    assert not any("onerror" in attributes for _, attributes in tags.found)  # ... and stay text
    assert all((a.get("src") or "").startswith("data:image/") for tag, a in tags.found if tag == "img")
    assert not {tag for tag, _ in tags.found} & {"script", "iframe", "object", "embed", "base", "form"}


def test_every_picture_has_words(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert all(a.get("alt") for tag, a in tags.found if tag == "img")


def test_videos_that_are_gone_leave_a_blank(page: str) -> None:
    assert page.count('class="blank"') >= 6 and "data:image/jpeg" not in page


def test_few_videos_make_a_report_without_heads(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=20, unreadable=range(5, 20))
    close(config)
    page = report(config)
    text = page.read_text()
    assert "No projection heads were fitted" in text and "at least 10, 2 and 2" in " ".join(text.split())
    with open(page.parent / "tables" / "coverage.csv", newline="") as file:
        rows = {row["backbone"]: row["videos"] for row in csv.DictReader(file)}
    assert rows == {"musicnn": "20", "r2plus1d": "5"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (36.5, "36.5"), (12345.6, "12,346"), (7.0, "7"), (-0.5, "-0.500")],
)
def test_numbers_are_written_for_readers(value: float, text: str) -> None:
    assert number(value) == text
