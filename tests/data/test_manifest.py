"""The manifest: append-only rows, errors that name the row, all table formats."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.cli import UserError
from config.model import load
from config.paths import Paths
from data.manifest import SCHEMA, active, beside_path, read_manifest, separate_audio, update
from data.videos import read_videos


def table(folder: Path, text: str, name: str = "videos.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def config(folder: Path, source: Path):
    return load({"results": str(folder / "results"), "videos": str(source)})


def test_table_formats_agree(tmp_path):
    rows = [("a", "x/1.mp4", "Ann", "folk", "slow|sad", "TR1"), ("b", "/abs/2.mp4", "", "", "", "")]
    header = ["video_id", "path", "artist", "genre", "tags", "msd_track_id"]
    csv = table(tmp_path, "\n".join(",".join(r) for r in [header, *rows]))
    tsv = table(tmp_path, "\n".join("\t".join(r) for r in [header, *rows]), "videos.tsv")
    parquet = tmp_path / "videos.parquet"
    columns = {h: [r[i] or None for r in rows] for i, h in enumerate(header)}
    pq.write_table(pa.table(columns | {"tags": [["slow", "sad"], None]}), parquet)
    read = [update(load({"results": str(tmp_path / f"from{s.suffix}"), "videos": str(s)})) for s in (csv, tsv, parquet)]
    assert read[0].equals(read[1]) and read[0].equals(read[2])
    assert read[0].schema.equals(SCHEMA)
    first, second = read[0].to_pylist()
    assert first["path"] == str(tmp_path / "x/1.mp4") and first["tags"] == ["slow", "sad"]
    assert second["path"] == "/abs/2.mp4" and second["artist"] is None and second["tags"] is None


def test_rows_are_for_ever(tmp_path):
    first = table(tmp_path, "video_id,path,genre\n" + "".join(f"v{i},{i}.mp4,folk\n" for i in range(20)))
    before = update(config(tmp_path, first)).to_pylist()
    # Ten new ones in front, two gone, one moved to another folder with another genre.
    lines = [f"n{i},{i}.mp4,metal\n" for i in range(10)] + [f"v{i},{i}.mp4,folk\n" for i in range(3, 20)]
    second = table(tmp_path, "video_id,path,genre\n" + "".join(lines) + "v0,moved/0.mp4,disco\n")
    after = update(config(tmp_path, second)).to_pylist()
    assert [r["video_id"] for r in after] == [f"v{i}" for i in range(20)] + [f"n{i}" for i in range(10)]
    assert [r["row"] for r in after] == list(range(30))
    retired = {"status": "retired"}
    assert after[1:20] == [before[1] | retired, before[2] | retired, *before[3:20]]
    assert after[0]["path"].endswith("moved/0.mp4") and after[0]["genre"] == "disco"


def test_moved_files_are_no_change_but_new_labels_are(tmp_path):
    record = Paths(tmp_path / "results").manifest_record
    texts = {}
    for name, line in {"first": "a,1.mp4,folk", "moved": "a,2.mp4,folk", "relabelled": "a,2.mp4,disco"}.items():
        update(config(tmp_path, table(tmp_path, f"video_id,path,genre\n{line}\n")))
        texts[name] = record.read_text()
    assert texts["first"] == texts["moved"] != texts["relabelled"]


def test_the_digest_of_a_known_table_stays_what_it_was(tmp_path):
    # Another digest would make every stage after the manifest run again in every old results folder.
    rows = ["é 1,1.mp4,Ann,folk,slow| sad |,TR1", "it's,2.mp4,,,,", 'c,3.mp4," ANN ",,|,']
    update(config(tmp_path, table(tmp_path, "video_id,path,artist,genre,tags,msd_track_id\n" + "\n".join(rows) + "\n")))
    record = json.loads(Paths(tmp_path / "results").manifest_record.read_text())
    assert record == {"rows": 3, "sha256": "22fe04f616a60ff382bd40b3d030056992ed30f870c2801d546d2b2860ed653a"}


def test_videos_that_left_keep_rows_and_labels_and_take_part_in_new_shares(tmp_path):
    update(config(tmp_path, table(tmp_path, "video_id,path,genre,tags\na,1.mp4,folk,x|y\nb,2.mp4,pop,\n")))
    source = table(tmp_path, "video_id,path,artist\nc,3.mp4,Ann\nb,4.mp4,\n")
    shares = {"train": 0.002, "validation": 0.001, "test": 0.997}
    after = update(load({"results": str(tmp_path / "results"), "videos": str(source), "splits": shares})).to_pylist()
    assert [(r["row"], r["video_id"], r["genre"], r["tags"], r["artist"], r["split"]) for r in after] == [
        (0, "a", "folk", ["x", "y"], None, "test"),
        (1, "b", None, None, None, "test"),
        (2, "c", None, None, "Ann", "test"),
    ]
    assert after[1]["path"].endswith("4.mp4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("video_id,path\na,1.mp4\nb,2.mp4\na,3.mp4\n", ["row 3", "'a'", "row 1"]),
        ("video_id,file\na,1.mp4\n", ["no column 'path'", "video_id, file"]),
        ("id,path\na,1.mp4\n", ["no column 'video_id'"]),
        ("video_id,path\n", ["no videos"]),
        ("video_id,path\na,1.mp4\n../b,2.mp4\n", ["row 2", "cannot be a file name"]),
        ("video_id,path\n,1.mp4\n", ["row 1", "empty"]),
        ("video_id,path\na,\n", ["row 1", "path is empty"]),
        ('video_id,path\n"a\nb",1.mp4\n', ["row 1", "control"]),
        ("video_id,path\n" + "x" * 251 + ",1.mp4\n", ["row 1", "250"]),
        ("video_id,path\na,1.mp4\nb,1.mp4\nb,2.mp4\na,3.mp4\nc/,4.mp4\n", ["row 3", "'b'", "row 2"]),
        ("video_id,path\na,1.mp4\n..,1.mp4\na,2.mp4\n", ["row 2", "'..'", "cannot be a file name"]),
        ("", ["cannot be read"]),
        ("video_id,path\na,1.mp4,extra\n", ["cannot be read"]),
    ],
)
def test_errors_name_the_row(tmp_path, text, words):
    with pytest.raises(UserError) as caught:
        read_videos(table(tmp_path, text))
    for word in [*words, "videos.csv"]:
        assert word in str(caught.value)


def test_other_wrong_sources(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_videos(tmp_path / "none.csv")
    with pytest.raises(UserError, match="neither a folder nor"):
        read_videos(table(tmp_path, "x", "videos.json"))
    with pytest.raises(UserError, match="lists no videos"):
        (tmp_path / "empty").mkdir()
        read_videos(tmp_path / "empty")
    (tmp_path / "manifest.parquet").write_text("not parquet")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_manifest(tmp_path / "manifest.parquet")


def test_missing_files_are_not_the_manifests_business(tmp_path):
    assert update(config(tmp_path, table(tmp_path, "video_id,path\na,nowhere.mp4\n"))).num_rows == 1


def test_folder(tmp_path):
    names = ["b.mp4", "sub/b.webm", "sub/c d%é.MKV", "-dash.mp4", "new\nline.avi", "notes.txt", "'q\".mp4"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    videos = read_videos(tmp_path / "in").to_pylist()
    assert sorted(os.path.relpath(v["path"], tmp_path / "in") for v in videos) == sorted(set(names) - {"notes.txt"})
    assert all("/" not in v["video_id"] and v["video_id"].isprintable() for v in videos)
    (tmp_path / "in" / "a.mp4").write_bytes(b"")
    again = {v["path"]: v["video_id"] for v in read_videos(tmp_path / "in").to_pylist()}
    assert {v["path"]: v["video_id"] for v in videos}.items() <= again.items()


def test_no_artist_is_in_two_splits(tmp_path):
    lines = "".join(f"v{i},{i}.mp4,artist {i % 40}\n" for i in range(400))
    rows = update(config(tmp_path, table(tmp_path, "video_id,path,artist\n" + lines))).to_pylist()
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["artist"], set()).add(row["split"])
    assert all(len(s) == 1 for s in splits.values())
    assert {s for group in splits.values() for s in group} == {"train", "validation", "test"}


def test_a_video_is_retired_and_comes_back(tmp_path, caplog):
    paths = Paths(tmp_path / "results")

    def run(ids: str) -> list[dict]:
        caplog.clear()
        return update(config(tmp_path, table(tmp_path, "video_id,path\n" + "".join(f"{i},{i}.mp4\n" for i in ids))))

    first = run("abcde")
    record = paths.manifest_record.read_text()
    assert "retired" not in record and set(first["status"].to_pylist()) == {"active"} and not caplog.text
    second = run("ace")
    assert active(second).tolist() == [True, False, True, False, True]
    assert second.filter(pa.array(active(second))).equals(first.take([0, 2, 4]))
    assert second["split"].equals(first["split"])  # where they will be again
    read = read_manifest(paths.manifest)
    assert [split is None for split in read["split"].to_pylist()] == [False, True, False, True, False]
    assert read_manifest(paths.manifest, ["split"]).equals(read.select(["split"]))
    assert json.loads(paths.manifest_record.read_text())["retired"] == 2
    assert "2 videos are no longer in the table and are retired" in caplog.text and "HALF" not in caplog.text
    run("ace")
    assert not caplog.text  # said once
    run("a")
    assert "2 videos are no longer" in caplog.text and "MORE THAN HALF of the 3 videos" in caplog.text
    assert run("abcde").equals(first)
    assert "4 videos that were retired are in the table again" in caplog.text
    assert paths.manifest_record.read_text() == record


@pytest.mark.parametrize("lacks", [["status"], ["group"], ["group", "title", "status"]])
def test_a_manifest_of_an_earlier_version_stays_as_it_is(tmp_path, lacks):
    source = config(tmp_path, table(tmp_path, "video_id,path\na,1.mp4\nb,2.mp4\n"))
    update(source)
    path, record = Paths(tmp_path / "results").manifest, Paths(tmp_path / "results").manifest_record
    pq.write_table(pq.read_table(path).drop_columns(lacks), path)  # as an older version wrote it
    before = path.read_bytes(), record.read_bytes()
    assert active(read_manifest(path)).all() and read_manifest(path, ["status"]).column_names == ["status"]
    assert read_manifest(path).schema.equals(SCHEMA) and read_manifest(path, ["group"])["group"].null_count == 2
    update(source)
    assert (path.read_bytes(), record.read_bytes()) == before
    update(config(tmp_path, table(tmp_path, "video_id,path\na,1.mp4\n")))
    assert active(read_manifest(path)).tolist() == [True, False]


def test_groups_are_kept_and_count_in_the_digest(tmp_path):
    record = Paths(tmp_path / "results").manifest_record
    texts = []
    for lines in ("a,1.mp4,\nb,2.mp4,\n", "a,1.mp4,Label\nb,2.mp4,\n"):
        made = update(config(tmp_path, table(tmp_path, "video_id,path,group\n" + lines)))
        texts.append(record.read_text())
    assert made["group"].to_pylist() == ["Label", None] and texts[0] != texts[1]
    update(config(tmp_path, table(tmp_path, "video_id,path\na,1.mp4\nb,2.mp4\n")))
    assert record.read_text() == texts[0]  # a column without values is none


def test_columns_of_files_change_no_digest(tmp_path):
    """Where a video's audio lies is no more a change than where the video lies; earlier manifests keep their digest."""
    paths = Paths(tmp_path / "results")
    plain = table(tmp_path, "video_id,path\na,a.mp4\nb,b.mp4\n")
    update(config(tmp_path, plain))
    before = paths.manifest_record.read_bytes()
    earlier = read_manifest(paths.manifest, stored=True).drop_columns(["audio_path", "audio_offset", "sha256"])
    pq.write_table(earlier, paths.manifest)
    manifest = read_manifest(paths.manifest)
    assert manifest.schema.equals(SCHEMA) and manifest["audio_offset"].null_count == 2
    update(config(tmp_path, plain))
    assert paths.manifest_record.read_bytes() == before
    assert pq.read_schema(paths.manifest).names == earlier.column_names  # as it was
    digest = "0" * 64
    address = "https://host/b.mp4"
    table(tmp_path, f"video_id,path,audio_path,audio_offset,sha256\na,a.mp4,a.mp3,2,\nb,{address},,,{digest}\n")
    update(config(tmp_path, plain))
    assert paths.manifest_record.read_bytes() == before
    first, second = read_manifest(paths.manifest).to_pylist()
    assert (first["audio_path"], first["audio_offset"]) == (str(tmp_path / "a.mp3"), 2.0)
    assert separate_audio(second) == {} and beside_path(second) == {"sha256": digest}
    assert separate_audio(first) == beside_path(first) == {"audio_path": first["audio_path"], "audio_offset": 2.0}
