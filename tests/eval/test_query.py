"""Queries by ids of a simulated collection: ranks as in the evaluation, outputs, and what is refused."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from config.cli import UserError, printable
from config.files import read_json, write_json
from config.heads import ModalityHead
from config.model import Config
from data.manifest import read_manifest, write_manifest
from eval.query import __main__ as command
from eval.query.answer import Search
from eval.query.page import page
from eval.query.query import NO_DIRECTION, Query
from eval.query.text import COLUMNS, as_json, as_rows, as_text, heading, minutes
from eval.ranks import ranks
from eval.retrieval import load_test
from heads.embed import embed
from heads.runs import runs
from heads.train import train
from tests.support.browser import CHROMIUM, assert_quiet
from tests.support.media import Audio, Video, regular, write
from tests.support.page import EVIL, Tags
from tests.support.simulate import simulate

SETTINGS = {"seeds": [3, 4], "experiments": {"baseline": {"max_epochs": 1}, "single": {"max_epochs": 1}}}
UNREADABLE = [2, 5]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A trained and embedded collection; some videos have no video features, and titles are hostile."""
    torch.set_num_threads(1)
    results = tmp_path_factory.mktemp("query")
    config = simulate(results, videos=200, unreadable=UNREADABLE, damaged=[(8, 1)], heads=SETTINGS)
    table = read_manifest(config.paths.manifest)
    film = write(results / "film.mkv", Video(regular(300, 1)), Audio(300.0, codec="pcm_s16le", rate=8000))
    columns = {"title": [EVIL] * 200, "path": [film if i % 2 else f"/media/{i}.mp4" for i in range(200)]}
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    write_manifest(config.paths, table)
    train(config, "baseline")
    embed(config, "baseline")
    return config


def ran(config: Config, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the command line."""
    given = ["query", "--config", str(config.paths.config), "--experiment", "baseline", *arguments]
    monkeypatch.setattr(sys, "argv", given)
    command.main()


@pytest.mark.parametrize("seed", [None, 4])
def test_an_id_has_the_rank_that_the_evaluation_gives_it(config: Config, seed: int | None) -> None:
    training = runs(config, "baseline")[0 if seed is None else 1]
    test, _ = load_test(config, "baseline", training)
    ids = test.table["video_id"].to_pylist()
    answers = Query(config.paths.results, "baseline", seed).search_all(ids, split="test")
    expected = ranks(*test.level("video")[:2])
    assert len(ids) == test.total > 10, "all test videos were read, so that the galleries are the same"
    for number in range(2):
        found = [answer.searches[number] for answer in answers]
        assert {search.gallery for search in found} == {len(ids)}
        assert [search.own_rank for search in found] == expected[number].tolist()
        assert {(search.source, search.target) for search in found} == {
            (("audio", "video"), ("video", "audio"))[number]
        }
    for answer in answers:
        search = answer.searches[0]
        own = [(match.video_id, match.rank) for match in search.matches if match.own]
        assert own == ([(answer.video_id, search.own_rank)] if (search.own_rank or 0) <= 10 else [])


def test_what_a_match_says_is_what_the_collection_has(config: Config) -> None:
    query = Query(config, "baseline", threads=2)
    answer = query.search("v0000", top=200, same=True)
    assert [(s.source, s.target, s.gallery) for s in answer.searches] == [
        ("audio", "video", 198),
        ("video", "audio", 200),
        ("audio", "audio", 199),
        ("video", "video", 197),
    ]
    starts = query._view.start()
    for search in answer.searches:
        assert [match.rank for match in search.matches] == list(range(1, search.gallery + 1))
        cosines = [match.cosine for match in search.matches]
        assert cosines == sorted(cosines, reverse=True)
        for match in search.matches:
            assert match.video_id == f"v{match.row:04d}" and match.title == EVIL
            assert match.moment.start in starts[match.row] and match.moment.query_start in starts[0]
            assert not (search.target == "video" and match.row in UNREADABLE)
            assert not (search.target == "video" and match.row == 8 and match.moment.start == starts[8, 1])
        own = [match.row for match in search.matches if match.own]
        assert own == ([0] if search.source != search.target else [])


def test_a_video_that_could_not_be_read_says_why(config: Config) -> None:
    answer = Query(config, "baseline").search("v0002")
    assert [search.source for search in answer.searches] == ["audio"]
    assert [failure.reason for failure in answer.failures["video"]] == ["no_video_stream"]


def test_a_video_without_direction_says_why(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(config, "baseline")
    stored = query._stored["video"]
    zeros = SimpleNamespace(read=lambda rows: np.zeros((len(rows), *stored.shape[1:]), np.float16))
    monkeypatch.setitem(query._stored, "video", zeros)
    assert [f.message for f in query._asked("v0000").failures["video"]] == [NO_DIRECTION]
    assert [f.reason for f in query._asked("v0002").failures["video"]] == ["no_video_stream"]


def test_videos_that_were_never_opened_have_no_seconds(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that exist already have no starts where the video's file is gone; the table ended in a traceback."""
    query = Query(config, "baseline")
    monkeypatch.setattr(query, "_starts", np.full_like(query._starts, np.nan))
    answer = query.search("v0001", top=2)
    moments = [match.moment for search in answer.searches for match in search.matches]
    assert [(moment.query_start, moment.start) for moment in moments] == [(None, None)] * 4
    assert as_text([answer]).count("  –  ") == 8 and answer.starts == []
    assert [row[10:12] for row in as_rows([answer])] == [["", ""]] * 4
    json.dumps(as_json(query, [answer], None, "video"), allow_nan=False)
    assert "data:video" not in page(query, [answer])


def test_the_level_of_segments_is_another_ranking(config: Config) -> None:
    query = Query(config, "baseline")
    whole, moments = (query.search("v0001", level=level).searches[0] for level in ("video", "segment"))
    assert all(match.cosine == pytest.approx(match.moment.cosine) for match in moments.matches)
    assert all(match.cosine != match.moment.cosine for match in whole.matches)


def test_what_is_not_there_is_refused_by_name(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'v00011' is no file, and no video .* near it: v0011"):
        Query(config, "baseline").search("v00011")
    with pytest.raises(UserError, match=r"heads\.experiments\.nosuch: no such experiment; there are \['base"):
        Query(config, "nosuch")
    with pytest.raises(UserError, match=r"single/embeddings\.json does not exist; run `snakemake train"):
        Query(config, "single")
    with pytest.raises(UserError, match=r"--seed 7: heads\.seeds has 3, 4"):
        Query(config, "baseline", 7)
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        Query(tmp_path, "baseline")


def test_embeddings_that_keep_their_lengths_are_refused(config: Config) -> None:
    kept = config.heads.experiments["single"].model_copy(update={"audio": ModalityHead(identity=True, normalise=False)})
    heads = config.heads.model_copy(update={"experiments": {"kept": kept}})
    with pytest.raises(UserError, match=r"heads\.experiments\.kept: `normalise: false`"):
        Query(config.model_copy(update={"heads": heads}), "kept")


def test_embeddings_of_another_cache_are_refused(config: Config) -> None:
    path = config.paths.heads("baseline") / "embeddings.json"
    record = read_json(path)
    assert record is not None
    try:
        write_json(path, record | {"videos": 100})
        with pytest.raises(UserError, match="is of 100 videos, the cache has 200; run `snakemake embeddings"):
            Query(config, "baseline")
        write_json(path, record | {"keys": record["keys"] | {"r2plus1d": "d" * 64}})
        with pytest.raises(UserError, match="of the cache keys .* r2plus1d dddddddd, the cache has"):
            Query(config, "baseline")
    finally:
        write_json(path, record)


def test_the_outputs_say_the_same(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    written, lines, song = tmp_path / "answers.json", tmp_path / "answers.csv", tmp_path / "song.mp3"
    song.write_bytes(b"mine")
    ran(config, monkeypatch, "v0000", "v0002", "--top", "3", "--json", str(written), "--csv", str(lines))
    printed = capsys.readouterr().out
    content = json.loads(written.read_text())
    check_schema(content)
    assert [answer["query"] for answer in content["answers"]] == ["v0000", "v0002"]
    assert content["random_weights"] == {"musicnn": False, "r2plus1d": True} and content["seed"] == 3
    matches = [m for answer in content["answers"] for search in answer["searches"] for m in search["matches"]]
    with open(lines, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and len(rows) == len(matches) == 9
    for row, match in zip(rows, matches, strict=True):
        assert (row["video_id"], int(row["rank"])) == (match["video_id"], match["rank"])
        assert float(row["cosine"]) == pytest.approx(match["cosine"], abs=1e-6)
        assert re.search(rf"^ +{match['rank']}( \*)? +{match['cosine']:.3f}  {match['video_id']} ", printed, re.M)
    assert "not searched by its video: no_video_stream: planted" in printed
    assert "its own video has rank" in printed and "by chance 99.5" in printed

    for targets, words in (
        ("--json - --csv -", "--json and --csv: both are -"),
        (f"--csv {song} --json {tmp_path}/x.json", r"--csv .*song\.mp3: the name of the file to write ends in \.csv"),
        (f"--html {lines}", r"ends in \.html"),
        ("--html -", "--html -: a page is not printed; give it a file"),
    ):
        with pytest.raises(UserError, match=words):
            ran(config, monkeypatch, "v0000", *targets.split())
    assert song.read_bytes() == b"mine"
    ran(config, monkeypatch, "v0000", "--json", "-")
    check_schema(json.loads(capsys.readouterr().out))
    with caplog.at_level(logging.WARNING, "query"):
        ran(config, monkeypatch, "v0002", "--csv", "-")
    assert "v0002 is not searched by its video: no_video_stream: planted" in caplog.text


def check_schema(content: dict[str, Any]) -> None:
    """Compare names and types with what docs/query.md promises."""
    number = (int, float)
    types: dict[str, Any] = {"experiment": str, "seed": int, "keys": dict, "random_weights": dict, "embeddings": str}
    types |= {"split": (str, type(None)), "level": str, "segment_seconds": number, "answers": list}
    check_types(content, types)
    for answer in content["answers"]:
        types = {"query": str, "path": str, "video_id": (str, type(None)), "starts": list, "failures": list}
        check_types(answer, types | {"searches": list})
        for failure in answer["failures"]:
            check_types(failure, {"modality": str, "reason": str, "message": str})
        for search in answer["searches"]:
            types = {"source": str, "target": str, "gallery": int, "own_rank": (float, type(None)), "matches": list}
            check_types(search, types)
            for match in search["matches"]:
                types = {"rank": int, "row": int, "video_id": str, "path": str, "cosine": float, "own": bool}
                types |= {"title": (str, type(None)), "artist": (str, type(None)), "moment": dict}
                check_types(match, types)
                check_types(match["moment"], {"query_start": float, "start": float, "cosine": float})


def check_types(content: dict[str, Any], types: dict[str, Any]) -> None:
    assert set(content) == set(types)
    assert not [name for name, kind in types.items() if not isinstance(content[name], kind)]


def test_the_page_escapes_titles_and_has_everything_inside(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = tmp_path / "answers.html"
    ran(config, monkeypatch, "v0001", "--top", "3", "--html", str(written))
    text = written.read_text()
    tags = Tags(text).tags
    assert "onerror" in text and not any("onerror" in attributes for _, attributes in tags)
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base", "form"}
    players = [attributes for tag, attributes in tags if tag == "video"]
    links = [a.get(name) or "" for _, a in tags for name in ("src", "poster", "href") if a.get(name)]
    assert len(players) >= 6 and all(link.startswith("data:") for link in links)
    assert all(str(a["src"]).startswith("data:video/mp4;base64,AAAA") for a in players)
    blanks = text.count('class="blank"')
    assert len(players) + blanks == 12 and text.count("there is no such file") == blanks
    if CHROMIUM is not None:
        assert_quiet(tmp_path, written.name)


def test_a_failure_of_two_backbones_is_said_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(config, "baseline")
    monkeypatch.setattr(query, "_side", lambda modality: ("r2plus1d", "r2plus1d"))
    assert [f.reason for f in query._asked("v0002").failures["video"]] == ["no_video_stream"]


def test_texts_for_a_terminal() -> None:
    assert "rank 275,000.5, by chance 275,000.5" in heading(Search("audio", "video", 550_000, 275_000.5, []))
    assert (minutes(0), minutes(62.34), minutes(3599.96)) == ("0:00.0", "1:02.3", "60:00.0")
    assert printable("a\x1b[31mb\n") == "a�[31mb�" and printable("x" * 80) == "x" * 59 + "…" and printable(None) == ""
