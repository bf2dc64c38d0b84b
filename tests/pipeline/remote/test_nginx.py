"""Fetching from a real nginx over TLS: ranges, redirects, packing, a slow line, a server that is killed meanwhile."""

import hashlib
import os

import pytest

import pipeline.remote.fetching as fetching
from bench.remote_servers import NGINX, allowing, authority, nginx
from data.places import parse
from pipeline.readers import MediaError
from pipeline.remote.fetching import fetched

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
DATA = os.urandom(1 << 16) + bytes(1 << 20)  # half of it packs well


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "files").mkdir()
    (folder / "files" / "a b.mp4").write_bytes(DATA)
    certificates = authority(folder)
    with nginx(folder / "files", folder / "server", certificates) as port:
        yield port, certificates, folder


def get(running, path, **settings):
    port, certificates, _ = running
    remote = allowing(certificates, port, **settings)
    with (
        fetched(parse(f"https://localhost:{port}{path}"), remote.model_dump_json()) as file,
        open(file, "rb") as opened,
    ):
        return opened.read()


def reason(running, path, **settings):
    with pytest.raises(MediaError) as caught:
        get(running, path, **settings)
    return caught.value.reason


def test_files_redirects_and_refusals(running, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    assert get(running, "/a%20b.mp4") == DATA  # gzip is on: what asks for it gets it packed
    assert get(running, "/moved/a%20b.mp4") == DATA
    assert reason(running, "/nothing.mp4") == "missing"
    assert reason(running, "/private/x.mp4") == "missing"
    assert reason(running, "/away/x.mp4") == "missing"
    assert reason(running, "/busy/x.mp4") == "network"


def test_a_range_from_the_place_of_the_cut(running, monkeypatch):
    cuts = iter([300_001, 700_000])
    write = fetching._Fetch._write

    def cut(self, answer):
        at = next(cuts, None)
        if at is None:
            return write(self, answer)
        while self.here < at:
            data = answer.body.read1(min(4096, at - self.here))
            os.pwrite(self.descriptor, data, self.here)
            self.digest.update(data)
            self.here += len(data)
        raise fetching.Temporary("the line was cut")

    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    monkeypatch.setattr(fetching._Fetch, "_write", cut)
    port, certificates, folder = running
    sha256 = hashlib.sha256(DATA).hexdigest()
    address = parse(f"https://localhost:{port}/a%20b.mp4")
    with (
        fetched(address, allowing(certificates, port).model_dump_json(), None, sha256) as file,
        open(file, "rb") as opened,
    ):
        assert opened.read() == DATA
    log = (folder / "server" / "access.log").read_text().splitlines()[-3:]
    assert [line.split('" ')[1].split()[:2] for line in log][1:] == [
        ["206", str(len(DATA) - 300_001)],
        ["206", str(len(DATA) - 700_000)],
    ]


def test_a_slow_line(running):
    assert reason(running, "/slow/a%20b.mp4", deadline_seconds=1) == "timeout"
