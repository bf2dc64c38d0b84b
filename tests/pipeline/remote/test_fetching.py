"""Fetching over HTTPS from a server that fails in every way: the file to the byte, or the right reason."""

import hashlib
import os
from collections import defaultdict

import pytest

import pipeline.remote.fetching as fetching
from bench.remote_servers import allowing, authority, server
from data.places import parse
from pipeline.readers import MediaError
from pipeline.remote import request
from pipeline.remote.fetching import fetched

SIZE = 3 << 20
DATA = os.urandom(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def web(tmp_path, certificates, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.mp4").write_bytes(DATA)
    with server(tmp_path / "files", certificates.tls, faults=defaultdict(list)) as running:
        yield running


def get(web, certificates, *faults, path="/a.mp4", sha256=None, folder=None, **settings):
    web.faults[path] = list(faults)
    remote = allowing(certificates, web.port, **settings)
    address = parse(f"https://localhost:{web.port}{path}")
    with fetched(address, remote.model_dump_json(), folder, sha256) as file, open(file, "rb") as opened:
        return opened.read()


def reason(*arguments, **named):
    with pytest.raises(MediaError) as caught:
        get(*arguments, **named)
    assert caught.value.not_fetched
    return caught.value.reason, caught.value.message


def test_a_file_as_it_is(web, certificates, tmp_path):
    assert get(web, certificates) == DATA
    assert get(web, certificates, sha256=SHA256.upper(), folder=str(tmp_path)) == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"]


PASSING = {
    "a server that is busy": ["503", "500", "429 1"],
    "a server that resets": ["reset", "reset"],
    "no HTTP": ["garbage"],
    "cut": ["cut"],
    "cut several times": ["cut", "cut-by-reset", "cut", "cut"],
    "cut, then busy": ["cut", "502", "cut"],
    "cut, without an identity": ["cut-without-etag"],
    "cut, and the server knows no ranges": ["cut", "no-ranges"],
    "cut, and the file is another now": ["cut", "changed"],
    "cut, and the wrong part comes": ["cut", "wrong-part"],
    "a length that is too long": ["long"],
    "interim answers": ["early-hints"],
}


@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass(web, certificates, kind):
    assert get(web, certificates, *PASSING[kind], sha256=SHA256) == DATA


def test_a_cut_file_is_gone_on_with(web, certificates):
    assert get(web, certificates, "cut", "cut") == DATA
    ranges = [request.headers.get("range") for request in web.asked("/a.mp4")]
    assert ranges == [None, f"bytes={SIZE // 2}-", f"bytes={SIZE // 2 + SIZE // 4}-"]


@pytest.mark.parametrize("fault", ["short", "login", "another"])
def test_only_a_digest_tells_a_wrong_content(web, certificates, fault):
    assert get(web, certificates, fault) != DATA
    assert get(web, certificates, fault, sha256=SHA256) == DATA  # the second time it is right
    found = reason(web, certificates, fault, fault, sha256=SHA256)
    assert found[0] == "unreadable" and SHA256 in found[1]


LASTING = {
    "404": ("missing", "404"),
    "410": ("missing", "410"),
    "401": ("missing", "401"),
    "403": ("missing", "we may not read this file"),
    "418": ("missing", "418"),
    "packed": ("unreadable", "gzip"),
    "chunked": ("unreadable", "how long"),
    "no-length": ("unreadable", "how long"),
    "two-lengths": ("unreadable", "how long"),
    "redirect https://elsewhere.invalid/a": ("missing", "not followed: https://elsewhere.invalid is not in"),
    "redirect http://localhost/a": ("missing", "http://localhost is no https address"),
    "redirect ftp://localhost/a": ("missing", "protocol 'ftp'"),
    "redirect file:///etc/hostname": ("missing", "protocol 'file'"),
    "redirect s3://bucket/key": ("missing", "s3://bucket is no https address"),
    "redirect //169.254.169.254/latest/": ("missing", "169.254.169.254"),
    "redirect https://localhost@elsewhere.invalid/": ("missing", "a user name or a password"),
    "redirect https:\\\\elsewhere.invalid\\a": ("missing", "backslash"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_faults_that_last(web, certificates, fault):
    expected, words = LASTING[fault]
    found = reason(web, certificates, fault)
    assert found[0] == expected and words in found[1], found
    assert len(web.asked("/a.mp4")) == 1


@pytest.mark.parametrize("fault", ["500", "reset", "garbage", "many-headers", "hints-alone", "cut-without-etag"])
def test_what_never_passes_is_the_networks(web, certificates, fault):
    found = reason(web, certificates, *[fault] * 9)
    assert found[0] == "network" and found[1].endswith(" tries)")
    assert len(web.asked("/a.mp4")) <= 7


@pytest.mark.parametrize("fault", ["silent", "stall", "drip-head", "drip-body"])
def test_the_deadline_holds_whatever_comes(web, certificates, fault):
    found = reason(web, certificates, *[fault] * 9, deadline_seconds=1.0)
    assert found[0] == "timeout" and "decoding.remote.deadline_seconds" in found[1]


def test_a_wait_beyond_the_deadline_is_not_waited_for(web, certificates):
    found = reason(web, certificates, "503 3000", deadline_seconds=5)
    assert found == ("network", f"https://localhost:{web.port} answers 503; it asks to wait for 3000 s (1 try)")
    when = "429 Fri, 01 Jan 2100 00:00:00 GMT"
    assert reason(web, certificates, when)[0] == "network"


@pytest.mark.parametrize("when", ["01 Jan 99999999999999999999", "32 Jan 2024", "01 Jan 2024 25:61", "²", "-1", ","])
def test_a_date_that_is_none_asks_for_no_wait(when):
    assert request._retry_after(f"Mon, {when} 00:00:00 GMT") is None and request._retry_after(when) is None


def test_redirects_between_allowed_hosts(web, certificates):
    here = f"https://localhost:{web.port}"
    assert get(web, certificates, f"redirect {here}/a.mp4?signature=x|y", path="/b") == DATA
    assert get(web, certificates, "redirect ../a.mp4#part", path="/c/d") == DATA
    found = reason(web, certificates, *["redirect /e"] * 9, path="/e")
    assert found[0] == "missing" and "more than 5 times" in found[1]


def test_a_file_that_is_too_large(web, certificates):
    found = reason(web, certificates, largest_mb=2)
    assert found == ("unreadable", "the file has 3 MiB, more than decoding.remote.largest_mb = 2")
