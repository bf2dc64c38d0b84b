"""The index of a tar shard, beside Python's tarfile; and every shard that tarfile reads silently wrong."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import tar, tar_index
from data.tar import ReadError, ShardError, walk
from data.tar_index import index_of, located
from tests.support.shards import add, write_shard

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=150)


def walked(data: bytes, tmp: Path | None = None) -> tar.Index:
    """Return the index of a shard with these bytes."""
    descriptor = os.memfd_create("shard")
    try:
        os.write(descriptor, data)
        return walk(descriptor, len(data))
    finally:
        os.close(descriptor)


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6), st.sampled_from(["gnu", "pax"]))
def test_members_are_those_of_tarfile(members, format):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[format], encoding="utf-8") as archive:
        for name, data in members.items():
            add(archive, name, data)
    whole = file.getvalue()
    index = walked(whole)
    with tarfile.open(fileobj=io.BytesIO(whole), encoding="utf-8") as archive:
        expected = [(m.name, m.offset, m.offset_data, m.size) for m in archive]
    assert [(e.name, e.header, e.begin, e.size) for e in index.entries] == expected and not index.problem
    assert [whole[e.begin : e.begin + e.size] for e in index.entries] == list(members.values())
    for entry in index.entries:
        leaves = ".." in entry.name.split("/")
        assert bool(entry.problem) == leaves


@given(st.binary(max_size=4096))
def test_any_bytes_are_an_index(data):
    index = walked(data)
    assert index.problem or data[:512] == bytes(512)


@given(st.data())
def test_a_changed_byte_or_a_cut_never_gives_other_bytes(data):
    members = {"a.mp4": b"A" * 700, "b/" + "long" * 40 + ".mp4": b"B" * 300, "c.mp4": b"C" * 100}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            add(archive, name, content)
    whole = bytearray(file.getvalue())
    cut = data.draw(st.integers(0, len(whole)))
    cut_index = walked(bytes(whole[:cut]))
    for entry in cut_index.entries:
        content = bytes(whole[:cut])[entry.begin : entry.begin + entry.size]
        assert entry.problem or content == members[entry.name]
    if not cut_index.problem:
        assert [e.name for e in cut_index.entries] == list(members)  # as soon as the end mark has begun
    header = data.draw(st.sampled_from([e.header for e in walked(bytes(whole)).entries]))
    whole[header + data.draw(st.integers(0, 511))] ^= data.draw(st.integers(1, 255))
    names = [e.name for e in walked(bytes(whole)).entries]
    assert names == list(members)[: len(names)] and len(names) < 3


@pytest.mark.parametrize("format", FORMATS)
def test_gnu_tar_writes_what_is_read(tmp_path, format):
    folder = tmp_path / "in" / ("deep" * 18) / ("deeper" * 10)
    folder.mkdir(parents=True)
    for name in ("a.mp4", "ü b.mp4", "x" * 90 + ".mp4"):
        (folder / name).write_bytes(name.encode() * 50)
    shard = tmp_path / "0.tar"
    subprocess.run(["tar", f"--format={format}", "-cf", shard, "-C", tmp_path / "in", "."], check=True)
    index = index_of(str(shard))
    files = [e for e in index.entries if not e.problem]
    assert len(files) == 3 and not index.problem
    for entry in files:
        data = shard.read_bytes()[entry.begin : entry.begin + entry.size]
        assert data == (tmp_path / "in" / entry.name).read_bytes()
        assert located(str(shard), entry.name) == entry
    assert all("a folder" in e.problem for e in index.entries if e.problem)


def test_what_is_no_regular_member_is_not_read(tmp_path):
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "folder", type=tarfile.DIRTYPE)
        add(archive, "link", type=tarfile.SYMTYPE, linkname="/etc/hostname")
        add(archive, "self", type=tarfile.SYMTYPE, linkname="self")
        add(archive, "hard", type=tarfile.LNKTYPE, linkname="good.mp4")
        add(archive, "pipe", type=tarfile.FIFOTYPE)
        add(archive, "device", type=tarfile.CHRTYPE)
        add(archive, "odd", b"xyz", type=b"Q")
        add(archive, "../x.mp4", b"up")
        add(archive, "/x.mp4", b"top")
        add(archive, "a/../../x.mp4", b"up")
        add(archive, "sparse", b"stored", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "s"})
        add(archive, "twice.mp4", b"one")
        add(archive, "./twice.mp4", b"two")
        add(archive, "good.mp4", b"good")
    for name, words in {
        "folder/": "a folder", "link": "a link", "self": "a link", "hard": "a hard link", "pipe": "a pipe",
        "device": "a device", "odd": "unknown kind 'Q'", "../x.mp4": "absolute", "/x.mp4": "absolute",
        "a/../../x.mp4": "absolute", "sparse": "sparse", "twice.mp4": "2 members",
    }.items():  # fmt: skip
        with pytest.raises(ShardError, match=words) as raised:
            located(str(shard), name)
        assert not raised.value.missing
    with pytest.raises(ShardError, match="no such member") as raised:
        located(str(shard), "x.mp4")
    assert raised.value.missing
    entry = located(str(shard), "good.mp4")
    assert shard.read_bytes()[entry.begin : entry.begin + entry.size] == b"good"


def test_a_sparse_member_of_gnu_tar(tmp_path):
    with open(tmp_path / "holes.mp4", "wb") as file:
        for position in range(0, 40 << 16, 1 << 16):  # more pieces than one header has room for
            file.seek(position)
            file.write(b"data")
        file.truncate(50 << 16)
    (tmp_path / "after.mp4").write_bytes(b"after")
    for how in (["--format=gnu"], ["--format=pax", "--sparse-version=0.1"], ["--format=pax", "--sparse-version=1.0"]):
        subprocess.run(["tar", *how, "-S", "-cf", "0.tar", "holes.mp4", "after.mp4"], cwd=tmp_path, check=True)
        index = index_of(str(tmp_path / "0.tar"))
        (tmp_path / "0.tar").unlink()
        assert ["sparse" in e.problem for e in index.entries] == [True, False]
        assert index.entries[1].name == "after.mp4" and index.entries[1].size == 5 and not index.problem


def test_shards_that_are_none(tmp_path):
    shard = Path(write_shard(tmp_path / "0.tar", {"a.mp4": b"a" * 2000, "b.mp4": b"b" * 2000}))
    data = shard.read_bytes()
    bad = bytearray(data)
    bad[located(str(shard), "b.mp4").header + 3] ^= 1
    for name, content, member, words, missing in (
        ("gzip", gzip.compress(data), "a.mp4", "compressed .gzip", False),
        ("zstd", b"\x28\xb5\x2f\xfd" + bytes(600), "a.mp4", "compressed .zstd", False),
        ("text", b"hello\n" * 200, "a.mp4", "not a tar file", False),
        ("empty", b"", "a.mp4", "is empty", False),
        ("zeros", bytes(10240), "a.mp4", "no such member", True),
        ("in the content", data[:3000], "b.mp4", "ends within the header|cut off", False),
        ("in the member", data[:4000], "b.mp4", "ends inside the member", False),
        ("at the member's end", data[:2560], "b.mp4", "no end mark", False),
        ("damaged", bytes(bad), "b.mp4", "damaged: a wrong checksum", False),
    ):
        other = tmp_path / f"{name}.tar"
        other.write_bytes(content)
        with pytest.raises(ShardError, match=words) as raised:
            located(str(other), member)
        assert raised.value.missing is missing, name
        if name in ("in the member", "damaged"):
            assert located(str(other), "a.mp4").size == 2000
    os.mkfifo(tmp_path / "pipe.tar")
    for other, words, missing in (
        (tmp_path / "pipe.tar", "regular file", False),
        (tmp_path, "regular file", False),
        (tmp_path / "none.tar", "no such shard", True),
        (tmp_path / "0.tar" / "x.tar", "cannot be opened", True),
    ):
        with pytest.raises(ShardError, match=words) as raised:
            located(str(other), "a.mp4")
        assert raised.value.missing is missing


def test_an_index_is_kept_and_of_one_state_of_its_shard(tmp_path, monkeypatch):
    folder = tmp_path / "indexes"
    shard = write_shard(tmp_path / "0.tar", {"a.mp4": b"a" * 600, b"\xff.mp4".decode(errors="surrogateescape"): b"b"})
    first = index_of(shard, folder)
    (kept,) = folder.iterdir()
    tar_index._RECENT.clear()
    monkeypatch.setattr(tar_index, "walk", lambda *_: pytest.fail("walked again"))
    assert index_of(shard, folder) == first
    monkeypatch.undo()
    # Another content of the same size and time: the member's own header tells.
    time = os.stat(shard).st_mtime_ns
    write_shard(Path(shard), {"b.mp4": b"a" * 600, b"\xff.mp4".decode(errors="surrogateescape"): b"b"})
    os.utime(shard, ns=(time, time))
    with pytest.raises(ShardError, match="not where its shard's index says"):
        located(shard, "a.mp4", folder)
    os.utime(shard, ns=(time, time + 1))
    assert located(shard, "b.mp4", folder).size == 600
    tar_index._RECENT.clear()
    for damage in ("{", "[]", json.dumps({"of": [0]})):
        kept.write_text(damage)
        tar_index._RECENT.clear()
        assert located(shard, "b.mp4", folder).size == 600
    assert json.loads(kept.read_text())["problem"] == ""
    tar_index._RECENT.clear()
    blocked = tmp_path / "a file"
    blocked.touch()
    assert located(shard, "b.mp4", blocked).size == 600  # nothing can be kept there


@pytest.mark.parametrize("fill", [0, 8192])
def test_what_comes_after_the_end_mark_is_said(tmp_path, fill):
    """Of two shards that `cat` put together, the second was lost without a word."""
    one, two = (Path(write_shard(tmp_path / f"{name}.tar", {f"{name}.mp4": b"v" * 600})) for name in "ab")
    joined = tmp_path / "joined.tar"
    joined.write_bytes(one.read_bytes() + bytes(fill) + two.read_bytes())
    index = index_of(str(joined))
    assert [entry.name for entry in index.entries] == ["a.mp4"]
    assert f"at byte {len(one.read_bytes()) + fill:,}" in index.problem
    with pytest.raises(ShardError, match="goes on after its end mark") as raised:
        located(str(joined), "b.mp4")
    assert not raised.value.missing
    joined.write_bytes(one.read_bytes() + b"a signature" * 100)  # no header
    assert not index_of(str(joined)).problem


def test_a_read_error_is_not_kept(tmp_path, monkeypatch):
    shard = write_shard(tmp_path / "0.tar", {"a.mp4": b"v" * 600, "b.mp4": b"v"})
    pread = os.pread

    def failing(descriptor, count, position):
        if position:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, count, position)

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(ReadError, match="cannot be read: Stale file handle") as raised:
        located(shard, "b.mp4", tmp_path / "indexes")
    assert not raised.value.missing
    monkeypatch.undo()
    assert located(shard, "b.mp4", tmp_path / "indexes").size == 1
