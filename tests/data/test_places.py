"""What the text of a `path` means: a file, a member of a tar shard, an address; and what tables make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.cli import UserError
from data.places import Address, File, Member, joined, parse
from data.same import same_files
from data.videos import read_videos

GOOD = {
    "a.mp4": File("a.mp4"),
    "/x/a::b.mp4": File("/x/a::b.mp4"),
    "/x/https://a.mp4": File("/x/https://a.mp4"),
    "/x/a.tar.gz::b.mp4": File("/x/a.tar.gz::b.mp4"),
    "/x/000.tar::b.mp4": Member("/x/000.tar", "b.mp4"),
    "/x/000.TAR::./b/c.mp4": Member("/x/000.TAR", "b/c.mp4"),
    "/İİ/000.tar::b.mp4": Member("/İİ/000.tar", "b.mp4"),
    "x.tar::a.tar::b.mp4": Member("x.tar", "a.tar::b.mp4"),
    "https://Host.org/A%20b.mp4?x=1&y": Address("https", "host.org", None, "/A%20b.mp4?x=1&y"),
    "HTTP://127.0.0.1:8080/a": Address("http", "127.0.0.1", 8080, "/a"),
    "https://[2001:DB8::1]:443/a": Address("https", "2001:db8::1", 443, "/a"),
    "s3://my-bucket/a//b/../ä #?.mp4": Address("s3", "my-bucket", None, "a//b/../ä #?.mp4"),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_a_text_means(text):
    place = parse(text, exists=lambda name: False)
    assert place == GOOD[text]
    assert parse(str(place), exists=lambda name: False) == place


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://host/a", "protocol 'ftp'"),
        ("file:///etc/hostname", "protocol 'file'"),
        ("simplecache::https://host/a", None),
        ("https://me:secret@host/a", "user name"),
        ("https://good.org@evil.org/a", "user name"),
        ("https://good.org\\@evil.org/a", "backslash"),
        ("https://good.org\\.evil.org/a", "backslash"),
        ("https://good.org/a b", "blank"),
        ("https://good.org/a\nb", "control"),
        ("https://good.org/a#b", "fragment"),
        ("https://good.org%2eevil/a", "name of a host"),
        ("https://bücher.de/a", "ASCII"),
        ("https://good.org/a%2", "%"),
        ("https://good.org", "no file"),
        ("https://good.org/", "no file"),
        ("https://good.org?/a", "no file"),
        ("https:///a", "name of a host"),
        ("https://good.org:/a", "port"),
        ("https://good.org:0/a", "port"),
        ("https://good.org:65536/a", "port"),
        ("https://good.org:443:443/a", "port"),
        ("https://2130706433/a", "IPv4"),
        ("https://0x7f000001/a", "IPv4"),
        ("https://127.1/a", "IPv4"),
        ("https://0177.0.0.1/a", "IPv4"),
        ("https://good.org./a", "name of a host"),
        ("https://[::1/a", "IPv6"),
        ("https://[::1]x/a", "IPv6"),
        ("https://[fe80::1%25eth0]/a", "IPv6"),
        ("s3://Bucket/a", "bucket"),
        ("s3://me@bucket/a", "a user name or a key before the bucket"),
        ("s3://bucket/", "no object"),
        ("https://good.org/a.tar::b.mp4", "local shard"),
    ],
)
def test_addresses_that_are_refused(text, problem, tmp_path):
    if problem is None:
        assert isinstance(parse(text, exists=lambda name: False), File)  # the readers open no protocol but files
        return
    with pytest.raises(ValueError, match=problem):
        parse(text)
    table = tmp_path / "videos.csv"
    quoted = '"' + text.replace('"', '""') + '"'
    table.write_text(f"video_id,path\na,a.mp4\nb,{quoted}\n")
    with pytest.raises(UserError, match=rf"row 2 .*column 'path': .*{problem}"):
        read_videos(table)


@given(st.text())
def test_every_text_is_a_place_or_refused(text):
    try:
        place = parse(text, exists=lambda name: False)
    except ValueError:
        assert "://" in text
    else:
        assert parse(str(place), exists=lambda name: False) == place


def test_members_are_relative_to_the_table(tmp_path):
    (tmp_path / "odd.tar::name.mp4").touch()
    table = tmp_path / "videos.csv"
    texts = ["shards/./0.tar::./a//b.mp4", "/s/0.tar::a", "odd.tar::name.mp4", "https://Host/a/./b//c", "./x//y.mp4"]
    table.write_text("video_id,path\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)))
    assert read_videos(table)["path"].to_pylist() == [
        f"{tmp_path}/shards/0.tar::a//b.mp4",
        "/s/0.tar::a",
        f"{tmp_path}/odd.tar::name.mp4",
        "https://host/a/./b//c",
        f"{tmp_path}/x/y.mp4",
    ]
    assert isinstance(parse(joined(str(tmp_path), "odd.tar::name.mp4")), File)


def test_the_same_member_under_two_names_of_its_shard(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"x")
    (tmp_path / "1.tar").symlink_to(tmp_path / "0.tar")
    paths = [f"{tmp_path}/{name}" for name in ("0.tar::a", "1.tar::a", "0.tar::b", "0.tar", "2.tar::a")]
    paths += ["https://host/a", "https://host/a", "https://host/b"]
    assert same_files([str(i) for i in range(len(paths))], paths) == [["0", "1"], ["5", "6"]]
