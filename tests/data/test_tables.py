"""Tables of videos of every kind: what is read, and errors that name row and column. No row is lost."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.cli import UserError
from data.manifest import read_manifest
from data.videos import read_videos

HEAD = "video_id,path,artist,title\n"


def rows(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_videos(path).to_pylist()


GOOD_TEXT = {
    "byte order mark": b"\xef\xbb\xbf" + HEAD.encode() + b"a,x.mp4,A,T\n",
    "Windows line ends": HEAD.replace("\n", "\r\n") + "a,x.mp4,A,T\r\n",
    "Macintosh line ends": HEAD.replace("\n", "\r") + "a,x.mp4,A,T\r",
    "mixed line ends": HEAD + "\r\na,x.mp4,A,T\r\n\n",
    "no line end at the end": HEAD + "a,x.mp4,A,T",
    "quotes": HEAD + '"a","x.mp4","A","T"\n',
    "columns in another order": "title,artist,path,video_id\nT,A,x.mp4,a\n",
    "two columns that nobody uses have one name": "video_id,path,artist,title,x,x\na,x.mp4,A,T,1,2\n",
}


@pytest.mark.parametrize("kind", GOOD_TEXT)
def test_good_text(tmp_path, kind):
    expected = {"video_id": "a", "path": str(tmp_path / "x.mp4"), "artist": "A", "title": "T"}
    assert rows(tmp_path / "t.csv", GOOD_TEXT[kind]) == [expected]


def test_text_within_quotes(tmp_path):
    videos = rows(tmp_path / "t.csv", HEAD + 'a,"x,""y"".mp4","A\nB",\nb,"new\nline.mp4",," "\n')
    assert videos[0]["path"].endswith('x,"y".mp4') and videos[0]["artist"] == "A\nB" and videos[0]["title"] is None
    assert videos[1]["path"].endswith("new\nline.mp4") and videos[1]["title"] == " "
    videos = rows(tmp_path / "t.tsv", 'video_id\tpath\ttags\na\tx,1.mp4\t"one| two "\n')
    assert videos[0]["path"].endswith("x,1.mp4") and videos[0]["tags"] == ["one", "two"]


BAD_TEXT = {
    "unclosed quote": (HEAD + 'a,x.mp4,"two\nb,y.mp4,z,\n', ["row 1", "'artist'", "line 2", "never closed"]),
    "unclosed quote in a later row": (HEAD + 'a,x.mp4,,\n\nb,y.mp4,,"z\n', ["row 2", "'title'", "line 4"]),
    "unclosed quote that a later one closes": (HEAD + 'a,x.mp4,"A,\nb,y.mp4,"B,\n', ["row 1", "'artist'"]),
    "a row within quotes": (HEAD + 'a,x.mp4,"A,\nb,y.mp4,B",\n', ["row 1", "'artist'", "whole row"]),
    "a row within the quotes of a path": (HEAD + 'a,"x.mp4,,\nb,y.mp4",,\n', ["row 1", "'path'", "whole row"]),
    "text after a quote": (HEAD + 'a,x.mp4,"A"B,\n', ["row 1", "'artist'"]),
    "a column twice": ("video_id,path,artist,artist\na,x.mp4,A,B\n", ["'artist' 2 times"]),
    "the id twice": ("video_id,video_id,path\na,b,x.mp4\n", ["'video_id' 2 times"]),
    "too few values": (HEAD + "a,x.mp4,A,T\nb,y.mp4\n", ["row 2", "line 3", "'artist'", "2 values", "the header 4"]),
    "too many values": (HEAD + "a,x.mp4,A,T,\n", ["row 1", "after 'title'", "5 values"]),
    "empty": ("", ["empty"]),
    "only a line end": ("\n", ["no column 'video_id'"]),
    "header only": (HEAD, ["lists no videos"]),
    "no header": ("a,x.mp4\n", ["no column 'video_id'"]),
    "UTF-16": ((HEAD + "a,x.mp4,,\n").encode("utf-16"), ["UTF-16"]),
    "UTF-16 without a mark": ((HEAD + "a,x.mp4,,\n").encode("utf-16-le"), ["UTF-16"]),
    "Latin-1": ((HEAD + "a,x.mp4,A,T\nb,y.mp4,Beyoncé,\n").encode("latin-1"), ["row 2", "'artist'", "UTF-8", "xe9"]),
    "Latin-1 in the header": ("video_id,pfad_é\n".encode("latin-1"), ["no column 'path'"]),
    "a NUL in a path": ((HEAD + "a,x.mp4,,\n" * 2000).encode() + b"b,y\0.mp4,,\n", ["row 2001", "'path'", "NUL"]),
    "a NUL in the beginning": (HEAD + "a,x\0.mp4,,\n", ["not text"]),
    "no path": (HEAD + "a,x.mp4,,\nb,,,\n", ["row 2", "'path'", "path is empty"]),
    "blank id": (HEAD + "  ,x.mp4,,\n", ["row 1", "video_id", "empty"]),
    "long text": (HEAD + "a,x.mp4,,\nb,y.mp4," + "x" * 1_000_000 + ",\n", ["row 2", "'artist'", "longer than 100,000"]),
    "zipped": (b"PK\x03\x04\x14\0\0\0", ["not text"]),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_bad_text(tmp_path, kind, suffix):
    text, words = BAD_TEXT[kind]
    path = tmp_path / f"table.{suffix}"
    if suffix == "tsv":
        text = text.replace(",", "\t") if isinstance(text, str) else text.replace(b",", b"\t")
    with pytest.raises(UserError) as caught:
        rows(path, text)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_long_value_that_nobody_uses_is_no_matter(tmp_path):
    assert len(rows(tmp_path / "t.csv", "video_id,path,about\na,x.mp4," + "x" * 1_000_000 + "\n")) == 1


def test_a_line_break_within_a_value_is_said(tmp_path, caplog):
    rows(tmp_path / "t.csv", HEAD + 'a,x.mp4,A,"two\nlines"\n')
    assert "row 1" in caplog.text and "'title'" in caplog.text and "line break" in caplog.text


def test_a_column_that_is_nearly_known_is_said(tmp_path, caplog):
    rows(tmp_path / "t.csv", "video_id,path,Artist\na,x.mp4,A\n")
    assert "'Artist' is not used" in caplog.text


def parquet(tmp_path, **columns):
    path = tmp_path / "t.parquet"
    given = {"video_id": pa.array(["a", "b"]), "path": pa.array(["x.mp4", "y.mp4"])}
    pq.write_table(pa.table(given | columns), path)
    return path


ARTISTS = ["A", None]
GOOD_COLUMNS = {
    "text": pa.array(ARTISTS),
    "large text": pa.array(ARTISTS, pa.large_string()),
    "bytes": pa.array([b"A", None], pa.binary()),
    "large bytes": pa.array([b"A", None], pa.large_binary()),
    "bytes of fixed size": pa.array([b"A", None], pa.binary(1)),
    "a dictionary": pa.array(ARTISTS).dictionary_encode(),
    "a dictionary of large text": pa.array(ARTISTS, pa.large_string()).dictionary_encode(),
}


@pytest.mark.parametrize("kind", GOOD_COLUMNS)
def test_columns_of_text(tmp_path, kind):
    videos = read_videos(parquet(tmp_path, artist=GOOD_COLUMNS[kind], title=pa.nulls(2))).to_pylist()
    assert [(v["artist"], v["title"]) for v in videos] == [("A", None), (None, None)]


def test_numbers_as_text(tmp_path):
    path = parquet(
        tmp_path,
        video_id=pa.array([7, 2**63], pa.uint64()),
        artist=pa.array([311, None], pa.int16()),
        genre=pa.array([None, float("nan")], pa.float64()),
    )
    videos = read_videos(path).to_pylist()
    assert [(v["video_id"], v["artist"], v["genre"]) for v in videos] == [("7", "311", None), (str(2**63), None, None)]


GOOD_TAGS = {
    "text": pa.array(["x| y ||", None]),
    "lists": pa.array([["x", " y "], []]),
    "large lists of large text": pa.array([["x", "y"], None], pa.large_list(pa.large_string())),
    "lists of bytes": pa.array([[b"x", b"y"], None], pa.list_(pa.binary())),
    "lists of fixed size": pa.array([["x", "y"], None], pa.list_(pa.string(), 2)),
    "a dictionary": pa.array(["x|y", None]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", GOOD_TAGS)
def test_columns_of_tags(tmp_path, kind):
    assert read_videos(parquet(tmp_path, tags=GOOD_TAGS[kind]))["tags"].to_pylist() == [["x", "y"], None]


def invalid(kind):
    """Two values, of which the second is text with a byte that is not UTF-8."""
    return (
        pa.array([b"A", b"\xe9"]).cast(kind)
        if kind == pa.binary()
        else pa.Array.from_buffers(
            pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"A\xe9")]
        )
    )


BAD_COLUMNS = {
    "lists of genres": ({"genre": pa.array([None, ["folk"]])}, ["row 2", "'genre'", "list"]),
    "numbers as tags": ({"tags": pa.array([1, 2])}, ["row 1", "'tags'", "int64", "separated by"]),
    "lists of numbers": ({"tags": pa.array([[1], [2]])}, ["'tags'", "int64"]),
    "nested lists": ({"tags": pa.array([[["x"]], None])}, ["'tags'", "list"]),
    "a tag is null": ({"tags": pa.array([["x"], ["y", None]])}, ["row 2", "'tags'", "null"]),
    "a tag is not UTF-8": ({"tags": pa.array([None, [b"\xe9"]], pa.list_(pa.binary()))}, ["row 2", "'tags'", "UTF-8"]),
    "bytes are not UTF-8": ({"artist": invalid(pa.binary())}, ["row 2", "'artist'", "UTF-8"]),
    "text is not UTF-8": ({"artist": invalid(pa.string())}, ["row 2", "'artist'", "UTF-8"]),
    "a record": ({"artist": pa.array([{"name": "A"}, None])}, ["row 1", "'artist'", "struct"]),
    "times as ids": ({"video_id": pa.array([0, 1], pa.timestamp("s"))}, ["row 1", "'video_id'", "timestamp"]),
    "fractions as ids": ({"video_id": pa.array([1.0, 2.0])}, ["row 1", "'video_id'", "double"]),
    "truth as genre": ({"genre": pa.array([None, True])}, ["row 2", "'genre'", "bool"]),
    "numbers as paths": ({"path": pa.array([1, 2])}, ["row 1", "'path'", "int64"]),
    "a path is empty": ({"path": pa.array(["x.mp4", ""])}, ["row 2", "'path'", "empty"]),
    "a path is missing": ({"path": pa.array(["x.mp4", None])}, ["row 2", "'path'", "empty"]),
    "an id is missing": ({"video_id": pa.array(["a", None])}, ["row 2", "video_id", "empty"]),
    "an id stands twice": ({"video_id": pa.array(["a", "a"])}, ["row 2", "'a'", "row 1"]),
    "a NUL": ({"title": pa.array(["x", "y\0"])}, ["row 2", "'title'", "NUL"]),
    "a NUL in a tag": ({"tags": pa.array([["x"], ["y\0"]])}, ["row 2", "'tags'", "NUL"]),
    "long text": ({"title": pa.array(["x", "y" * 1_000_000])}, ["row 2", "'title'", "longer"]),
}


@pytest.mark.parametrize("kind", BAD_COLUMNS)
def test_bad_columns(tmp_path, kind):
    columns, words = BAD_COLUMNS[kind]
    path = parquet(tmp_path, **columns)
    with pytest.raises(UserError) as caught:
        read_videos(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_column_twice_in_parquet(tmp_path):
    arrays = [pa.array(["a"]), pa.array(["x.mp4"]), pa.array(["A"]), pa.array(["B"])]
    pq.write_table(pa.table(arrays, names=["video_id", "path", "artist", "artist"]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="'artist' 2 times"):
        read_videos(tmp_path / "t.parquet")


def test_the_folders_of_a_parquet_file_are_no_columns(tmp_path):
    (tmp_path / "artist=X").mkdir()
    assert read_videos(parquet(tmp_path / "artist=X")).column_names == ["video_id", "path"]


@pytest.fixture(scope="module")
def healthy():
    file = io.BytesIO()
    columns = {"video_id": ["a", "b"], "path": ["x", "y"], "tags": [["x"], None], "genre": ["g", "h"]}
    pq.write_table(pa.table(columns), file, compression="snappy")
    return file.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_parquet_ends_in_an_error_or_a_table(tmp_path, healthy, data):
    damaged = bytearray(healthy)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 0]))])
    for reader in (read_videos, read_manifest):
        try:
            reader(path)
        except UserError as error:
            assert str(path) in str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=60), st.text('ab,"\n\r\t\0é', max_size=40).map(str.encode)))
def test_any_bytes_end_in_an_error_or_a_table(tmp_path, text):
    path = tmp_path / "any.csv"
    path.write_bytes(b"video_id,path\n" + text)
    try:
        read_videos(path)
    except UserError as error:
        assert str(path) in str(error)


def test_a_path_behind_a_link_is_the_file_that_the_system_opens(tmp_path, monkeypatch):
    for folder in ("far/tables", "far/media", "media", "near"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "far/media/x.mp4").write_bytes(b"right")
    (tmp_path / "near/media").mkdir()
    (tmp_path / "near/media/x.mp4").write_bytes(b"wrong")
    (tmp_path / "near/tables").symlink_to("../far/tables")
    (tmp_path / "far/tables/t.csv").write_text(
        "video_id,path\na,../media/x.mp4\nb,./../media//x.mp4\n", encoding="utf-8"
    )
    for video in read_videos(tmp_path / "near/tables/t.csv").to_pylist():
        with open(video["path"], "rb") as file:
            assert file.read() == b"right"
    # The same for a folder that is given so.
    (tmp_path / "near/link").symlink_to("../far/tables")
    monkeypatch.chdir(tmp_path)
    (video,) = read_videos(tmp_path / "near/link/../media").to_pylist()
    with open(video["path"], "rb") as file:
        assert file.read() == b"right"


def test_digests_of_addresses(tmp_path):
    digest = "0123456789abcdef" * 4
    head = "video_id,path,sha256\n"
    found = rows(
        tmp_path / "t.csv", f"{head}a,https://h.example/a.mp4, {digest.upper()}\nb,s3://bucket/b,\nc,c.mp4,x\n"
    )
    assert [row["sha256"] for row in found] == [digest, None, None]
    assert "sha256" not in rows(tmp_path / "t.csv", f"{head}c,c.mp4,whatever\n")[0]
    with pytest.raises(UserError, match="row 1 .*'sha256': 'abc' is not a SHA-256"):
        rows(tmp_path / "t.csv", f"{head}a,https://h.example/a.mp4,abc\n")


def test_digests_that_check_nothing_are_counted(tmp_path, caplog):
    caplog.set_level("INFO", "manifest")
    digest, head = "0" * 64, "video_id,path,audio_path,sha256\n"
    rows(tmp_path / "t.csv", f"{head}a,https://h.example/a.mp4,,{digest}\nb,b.mp4,,\n")
    assert not caplog.messages
    remote = "https://h.example/a.mp4,https://h.example/a.mp3"
    rows(tmp_path / "t.csv", f"{head}a,{remote},{digest}\nb,b.mp4,,{digest}\nc,c.mp4,,x\nd,d.mp4,,\n")
    local, sound = caplog.messages
    assert local.startswith("sha256 of 2 videos is not used") and "`audio_path` of 1 videos is not checked" in sound


def test_offsets_filled_with_zero(tmp_path):
    head = "video_id,path,audio_path,audio_offset\n"
    found = rows(tmp_path / "t.csv", f"{head}a,a.mp4,a.mp3,0\nb,b.mp4,,0\nc,c.mp4,,0.0\n")
    assert [row["audio_offset"] for row in found] == [0.0, None, None]
    assert rows(tmp_path / "t.csv", "video_id,path,audio_offset\na,a.mp4,0\n")[0]["audio_offset"] is None


def test_columns_of_a_separate_audio_track(tmp_path):
    text = "video_id,path,audio_path,audio_offset\na,a.mp4,s/0.tar::a.mp3,-1.5\nb,b.mp4,,\n"
    expected = [
        {"path": str(tmp_path / "a.mp4"), "audio_path": f"{tmp_path}/s/0.tar::a.mp3", "audio_offset": -1.5},
        {"path": str(tmp_path / "b.mp4"), "audio_path": None, "audio_offset": None},
    ]
    expected = [{"video_id": name} | row for name, row in zip("ab", expected, strict=True)]
    assert rows(tmp_path / "t.csv", text) == expected
    for offsets in ([-1.5, None], [-1.5, float("nan")], pa.array(["-1.5", None])):
        columns = {"video_id": ["a", "b"], "path": ["a.mp4", "b.mp4"], "audio_path": ["s/0.tar::a.mp3", None]}
        pq.write_table(pa.table(columns | {"audio_offset": offsets}), tmp_path / "t.parquet")
        assert read_videos(tmp_path / "t.parquet").to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("a.mp3,soon", "'audio_offset': 'soon' is no number"),
        ("a.mp3,nan", "'audio_offset': nan is no number"),
        ("a.mp3,inf", "'audio_offset': inf is no number"),
        (",1.5", "'audio_offset': there is no `audio_path`"),
        ("ftp://host/a.mp3,", "'audio_path': the protocol 'ftp'"),
    ],
)
def test_wrong_columns_of_a_separate_audio_track(tmp_path, values, words):
    text = f"video_id,path,audio_path,audio_offset\na,a.mp4,,\nb,b.mp4,{values}\n"
    with pytest.raises(UserError, match=f"row 2 .*{words}"):
        rows(tmp_path / "t.csv", text)
