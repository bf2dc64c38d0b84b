"""The atlas's site and its server: what is exported, what is served, and what is not."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.cli import UserError
from config.paths import Paths
from eval.atlas import site
from eval.atlas.layout import PLAYER, metadata
from eval.atlas.media import MEDIA
from eval.atlas.serve import Server, part
from tests.support.page import EVIL

ABOUT = {
    "spaces": [
        {"name": "a", "parts": ["audio", "video"], "embeddings": "1"},
        {"name": "features_b", "parts": [""]},
    ],
    "methods": ["pca", "umap"],
}


def write_atlas(paths: Paths, media: bool) -> None:
    """Write a small atlas, a manifest beside it, and a clip if it has media."""
    columns = {
        f"{p}_{m}_{axis}": [0.0, 1.0]
        for p in ("a_audio", "a_video", "features_b")
        for m in ABOUT["methods"]
        for axis in "xy"
    }
    table = pa.table(
        {
            "row": [1, 2],
            "video_id": ["x", "y"],
            "name": [EVIL, "y"],
            "genre": ["rock", EVIL],
            "tags": [["t", EVIL], ["t"]],
        }
        | {"split": ["test", "test"], "artist": ["one", "one"], "a_audio_to_video_rank": [1.0, 2.0], **columns}
    )
    if media:
        struct = pa.array([{"bytes": b"1", "path": "x.jpg"}, None], MEDIA)
        table = table.append_column("image", struct).append_column("audio", struct)
        clip = paths.atlas_clips / "media" / "c.mp4"
        clip.parent.mkdir(parents=True)
        clip.write_bytes(b"clip")
        clip.with_suffix(".jpg").write_bytes(b"still")
    table = table.append_column("video", pa.array(["media/c.mp4" if media else "video/1#t=0.00,3.00", None]))
    paths.report.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"atlas": json.dumps(ABOUT)}), paths.atlas)
    secret, film = paths.results / "secret", paths.results / "film.mp4"
    secret.write_bytes(b"secret")
    film.write_bytes(bytes(range(200)))
    pq.write_table(pa.table({"row": [0, 1, 2], "path": [str(secret), str(film), str(secret)]}), paths.manifest)


@pytest.fixture
def application(tmp_path, monkeypatch):
    """A stand-in of embedding-atlas's application."""
    folder = tmp_path / "static"
    for name in ("index.html", "assets/duckdb-eh.wasm", "assets/duckdb-mvp-1.wasm", "duckdb-wasm/v1/wasm_mvp/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(site, "application", lambda: folder)


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "results").mkdir()
    return Paths(tmp_path / "results")


def test_a_site_is_the_application_the_atlas_and_the_clips(paths, application):
    write_atlas(paths, media=True)
    folder = site.export(paths)
    (folder / "old").write_text("of before")
    assert site.export(paths) == folder
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        *("index.html", "assets/duckdb-eh.wasm", "data/dataset.parquet", "data/metadata.json", "media/c.mp4"),
    }
    assert [path.name for path in paths.report.iterdir() if path.name.startswith(".")] == []
    assert pq.read_table(folder / "data" / "dataset.parquet").equals(pq.read_table(paths.atlas))
    assert site.videos(paths) == {}


def test_the_layout_has_a_map_for_each_space_and_method(paths, application):
    write_atlas(paths, media=True)
    state = json.loads((site.export(paths) / "data" / "metadata.json").read_text())["props"]["initialState"]
    assert [layout["name"] for layout in state["layouts"].values()] == [
        *("a audio PCA", "a audio UMAP", "a video PCA", "a video UMAP", "features of b PCA", "features of b UMAP"),
    ]
    named = {name for layout in state["layouts"].values() for name in layout["chartIds"]}
    assert named == state["charts"].keys()
    columns = pq.read_schema(paths.atlas).names
    for chart in state["charts"].values():
        assert {value for key, value in chart.get("data", {}).items() if key != "isList"} <= {*columns, "neighbours"}
    # One artist: nothing to choose. Genres are colours.
    assert "artist" not in named and state["charts"]["map 1"]["data"]["category"] == "genre"
    assert state["charts"]["map 5"]["data"]["x"] == "features_b_pca_x"
    styles = state["columnStyles"]
    assert styles.keys() == set(columns) and styles["a_video_pca_x"]["display"] == "hidden"
    # Text of videos is only ever shown by the default renderer, which sets text; the one template escapes its value.
    assert {name: style["renderer"] for name, style in styles.items() if "renderer" in style} == {
        "image": "image", "audio": "audio", "video": "liquid-template",
    }  # fmt: skip
    assert "{{ value | escape }}" in PLAYER and PLAYER.count("{{") == 1
    assert EVIL not in json.dumps(state)


def test_many_values_are_no_colours():
    columns = ["row", "name", "genre", "a_audio_pca_x", "a_audio_pca_y"]
    about = {"spaces": [{"name": "a", "parts": ["audio"]}], "methods": ["pca"]}
    state = metadata(columns, about, {"genre": 5000})["props"]["initialState"]
    assert "genre" not in state["charts"] and "category" not in state["charts"]["map 1"]["data"]


def test_what_is_wrong_is_said(paths, caplog):
    with pytest.raises(UserError, match=r"atlas\.parquet does not exist; run `snakemake atlas --cores 2 --configfile "):
        site.about(paths)
    write_atlas(paths, media=False)
    site.warn_if_older(paths, site.about(paths))
    paths.heads("a").mkdir(parents=True)
    (paths.heads("a") / "embeddings.json").write_text('{"digest": "2"}')
    assert not caplog.messages
    site.warn_if_older(paths, site.about(paths))
    assert "the atlas is older than the embeddings of a; `snakemake atlas" in caplog.text
    for damaged in (b"PAR1", b""):
        paths.atlas.write_bytes(damaged)
        with pytest.raises(UserError, match="is not an atlas; delete it and run `snakemake atlas"):
            site.about(paths)
    pq.write_table(pa.table({"row": [1]}), paths.atlas)
    with pytest.raises(UserError, match="is not an atlas"):
        site.about(paths)


Answer = tuple[int, bytes, http.client.HTTPMessage]


@pytest.fixture
def served(paths, application):
    """A server of a site that plays the videos' own files: a function of path and headers that returns an answer."""
    write_atlas(paths, media=False)
    server = Server(site.export(paths), site.videos(paths))
    (paths.report / "explore" / "link").symlink_to(paths.results / "secret")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def ask(path: str, method: str = "GET", token: bool = True, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
        before = urlsplit(server.address).path.rstrip("/") if token else ""
        connection.putrequest(method, before + path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers

    yield ask
    server.shutdown()
    server.server_close()


def test_files_of_the_site_and_videos_of_the_atlas_are_served(served):
    status, text, headers = served("/")
    assert (status, text) == (200, b"index.html") and "default-src 'self'" in headers["Content-Security-Policy"]
    assert served("/index.html?x=1")[1] == b"index.html"
    assert served("/assets/duckdb-eh.wasm")[2]["Content-Type"] == "application/wasm"
    status, film, headers = served("/video/1")
    assert (status, film, headers["Content-Type"]) == (200, bytes(range(200)), "video/mp4")
    status, nothing, headers = served("/video/1", "HEAD")
    assert (status, nothing, headers["Content-Length"]) == (200, b"", "200")


@pytest.mark.parametrize(
    "path", ["/", "", "/index.html", "/video/1", "/x/video/1", "/x/", "//video/1", "/?", "/%ff/", "/%C3%A4/"]
)
def test_nothing_is_served_without_the_token(served, path):
    status, text, _ = served(path, token=False)
    assert status == 404 and b"index.html" not in text and bytes(range(200)) not in text


def test_every_server_has_another_token(paths):
    with Server(paths.results, {}) as one, Server(paths.results, {}) as other:
        tokens = {urlsplit(server.address).path for server in (one, other)}
    assert len(tokens) == 2 and min(map(len, tokens)) >= 22


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("a.mp4", "video/mp4"), ("a.MKV", "video/x-matroska"), ("a.webm", "video/webm"), ("a.mp3", "audio/mpeg")),
        *((f"a{suffix}", "application/octet-stream") for suffix in (".html", ".js", ".svg", ".wasm", ".mpd", "", ".x")),
    ],
)
def test_a_videos_file_is_never_a_page_or_a_script(paths, name, kind):
    path = paths.results / name
    path.write_bytes(b"<script>alert(1)</script>")
    with Server(paths.results, {1: str(path)}) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with urllib.request.urlopen(f"{server.address}video/1", timeout=30) as answer:
            assert answer.headers["Content-Type"] == kind and answer.headers["X-Content-Type-Options"] == "nosniff"
        server.shutdown()


def test_parts_of_a_file_are_served(served):
    status, some, headers = served("/video/1", Range="bytes=10-19")
    assert (status, some, headers["Content-Range"]) == (206, bytes(range(10, 20)), "bytes 10-19/200")
    assert served("/video/1", Range="bytes=-5")[1] == bytes(range(195, 200))
    status, nothing, headers = served("/video/1", Range="bytes=200-")
    assert (status, nothing, headers["Content-Range"]) == (416, b"", "bytes */200")
    # More digits than Python makes a number of.
    for digits in ("9" * 5000 + "-", "0-" + "9" * 5000, "-" + "9" * 5000, "٣-"):
        assert part(f"bytes={digits}", 200) == (0, 200)
    assert served("/video/1", Range="bytes=" + "9" * 5000 + "-")[:2] == (200, bytes(range(200)))


@pytest.mark.parametrize(
    "path",
    [
        *("/video/0", "/video/2", "/video/1/", "/video/x", "/video/../secret", "/video/999999999999", "/video/-1"),
        *("/../secret", "/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/assets/../../secret", "//etc/passwd"),
        *("/link", "/assets", "/data/", "/nothing", "/..\\secret", "/%00", "/video/%00", "/%ff", "/" + "a" * 5000),
        *("", "/video/%D9%A1", "/" + "a/" * 3000),
    ],
)  # fmt: skip
def test_nothing_else_is_served(served, path):
    status, text, _ = served(path)
    assert status == 404 and b"secret" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "[::1]", ""])
def test_another_name_is_refused(served, host):
    assert served("/", Host=host)[0] == 421


def test_only_reading(served):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert served("/", method)[0] == 501


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_a_part_of_the_file(size, first, last):
    whole = np.arange(size)
    found = part(f"bytes={first}-{last}", size)
    if first > last:
        assert found == (0, size)
    elif first >= size:
        assert found is None
    else:
        assert found is not None and whole[slice(*found)].tolist() == list(range(first, min(last + 1, size)))
    found = part(f"bytes=-{last}", size)
    assert found is None if not min(last, size) else whole[slice(*found)].tolist() == whole[-min(last, size) :].tolist()


@given(st.none() | st.text(max_size=20), st.integers(0, 50))
def test_any_header_gives_a_part_or_nothing(header, size):
    found = part(header, size)
    assert found is None or 0 <= found[0] <= found[1] <= size
