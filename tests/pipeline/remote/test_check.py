"""Before a job begins: keys that are refused and a network that is down stop it, a single file does not."""

import socket
from collections import defaultdict

import pytest

import pipeline.remote.check as check
from bench.remote_servers import KEYS, allowing, authority, bucket, server, verify
from config.cli import UserError
from config.remote import Remote
from pipeline.remote.check import check_access


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def web(tmp_path, certificates, monkeypatch):
    monkeypatch.setattr(check, "PAUSE", 0.0)
    with server(tmp_path, certificates.tls, faults=defaultdict(list)) as running:
        running.content = lambda path: b"x" * 5000
        yield running


def paths(web, count):
    return videos(f"https://localhost:{web.port}/{i}.mp4" for i in range(count))


def videos(*paths):
    return [{"path": path} for group in paths for path in ([group] if isinstance(group, str) else group)]


def test_one_request_is_enough(web, certificates):
    check_access([*videos("/data/a.mp4"), *paths(web, 40)], allowing(certificates, web.port))
    (asked,) = web.requests
    assert asked.headers["range"] == "bytes=0-0"


def test_nothing_is_asked_of_what_is_not_allowed(web, certificates):
    check_access(paths(web, 40), Remote())
    check_access(videos("/data/a.mp4"), allowing(certificates, web.port))
    assert not web.requests


def test_separate_audio_is_asked_for_too(web, certificates):
    both = [{"path": "/data/a.mp4", "audio_path": f"https://localhost:{web.port}/a.mp3"}]
    check_access(both, allowing(certificates, web.port))
    assert [request.path for request in web.requests] == ["/a.mp3"]


@pytest.mark.parametrize("fault", ["404", "500", "cut", "packed", "redirect https://evil.invalid/", "garbage"])
def test_a_file_with_another_fault_is_the_jobs_business(web, certificates, fault):
    for number in range(40):
        web.faults[f"/{number}.mp4"] = [fault]
    check_access(paths(web, 40), allowing(certificates, web.port))


def test_files_that_are_refused(web, certificates):
    for number in range(0, 40, 2):
        web.faults[f"/{number}.mp4"] = ["403"] * 9
    settings = allowing(certificates, web.port)
    check_access(paths(web, 1), settings)  # one file may be private
    check_access(paths(web, 2), settings)  # the other one is not
    with pytest.raises(UserError, match=r"answers 403.*5 of this job's 20 .*decoding\.remote\.https"):
        check_access(paths(web, 40)[::2], settings)
    assert len(web.requests) == 1 + 2 + 5


def test_hosts_that_do_not_answer(web, certificates, caplog):
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = free.getsockname()[1]
    settings = allowing(certificates, web.port, gone)
    there, away = paths(web, 10), videos(f"https://localhost:{gone}/{i}.mp4" for i in range(10))
    check_access(there + away, settings)
    assert "tried all the same" in caplog.text
    check_access(away[:9], settings)
    with pytest.raises(UserError, match="no host of this job's videos can be reached.*refused"):
        check_access(away, settings)


def test_a_certificate_that_is_not_trusted(web, certificates):
    settings = allowing(certificates, web.port, ca_file=None)
    with pytest.raises(UserError, match=r"certificate is not trusted.*decoding\.remote\.ca_file"):
        check_access(paths(web, 10), settings)
    settings = allowing(certificates, web.port, ca_file="/dev/null")
    with pytest.raises(UserError, match="ca_file: /dev/null has no certificates"):
        check_access(paths(web, 10), settings)


def test_keys_that_s3_refuses(certificates, monkeypatch):
    monkeypatch.setattr(check, "PAUSE", 0.0)
    keys = videos(f"s3://clips/{i}.mp4" for i in range(3))
    with server("/", certificates.tls, authorise=verify) as running:
        running.content = lambda path: b"x" * 5000
        settings = allowing(certificates, https=[], s3={"clips": bucket(running.port)})
        with pytest.raises(UserError, match="TEST_ACCESS_KEY is not set"):
            check_access(keys, settings)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        check_access(keys, settings)
        monkeypatch.setenv("TEST_SECRET_KEY", "another")
        with pytest.raises(UserError, match=r"SignatureDoesNotMatch.*3 of this job's 3 .*decoding\.remote\.s3\.clips"):
            check_access(keys, settings)
        monkeypatch.setenv("TEST_ACCESS_KEY", "AKIAWRONG")
        with pytest.raises(UserError, match=r"InvalidAccessKeyId.*1 of this job's 1 "):
            check_access(keys[:1], settings)
