"""S3: signatures as published, keys from the named variables alone, and errors that say what to mend."""

import os
from collections import defaultdict
from datetime import UTC, datetime
from socket import AF_INET, SOCK_STREAM

import pytest

import pipeline.remote.connection as connection
import pipeline.remote.fetching as fetching
from bench.fault_server import Request
from bench.remote_servers import ACCESS, KEYS, SECRET, TOKEN, allowing, authority, bucket, server, verify
from config.cli import UserError
from config.remote import Bucket
from data.places import parse
from pipeline.readers import MediaError
from pipeline.remote.fetching import fetched
from pipeline.remote.signing import signed

DATA = os.urandom(2 << 20)
NAMES = ["a.mp4", "a b/c+d.mp4", "é/日本 #1?x=2&y.mp4", "100%/%41.mp4", "double//slash.mp4", "~/(!'*).mp4"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def s3(certificates, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    # What other libraries would take into account.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://evil.invalid")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    monkeypatch.setenv("https_proxy", "http://evil.invalid:1")
    store = {f"/clips/{name}": DATA for name in NAMES}
    with server(os.devnull, certificates.tls, faults=defaultdict(list), authorise=verify) as running:
        running.content = store.get
        yield running


def get(s3, certificates, key="a.mp4", *faults, **settings):
    s3.faults[f"/clips/{key}"] = list(faults)
    remote = allowing(certificates, https=[], s3={"clips": bucket(s3.port, **settings)})
    with fetched(parse(f"s3://clips/{key}"), remote.model_dump_json()) as file, open(file, "rb") as opened:
        return opened.read()


def test_the_published_example():
    """Amazon's example of a GET with a range, in "Signature Calculations for the Authorization Header"."""
    variables = {"A": "AKIAIOSFODNN7EXAMPLE", "S": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        headers = dict(
            signed(
                "examplebucket",
                Bucket(access_key_variable="A", secret_key_variable="S"),
                "/test.txt",
                [("Host", "examplebucket.s3.amazonaws.com"), ("Range", "bytes=0-9")],
                datetime(2013, 5, 24, tzinfo=UTC),
            )
        )
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert headers["Authorization"].endswith(f"Signature={wanted}")


def test_the_servers_check_is_that_of_the_published_example(monkeypatch):
    monkeypatch.setattr("bench.remote_servers.ACCESS", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setattr("bench.remote_servers.SECRET", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
    names = "host;range;x-amz-content-sha256;x-amz-date"
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": empty,
        "x-amz-date": "20130524T000000Z",
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={wanted}",
    }
    assert verify(Request("GET", "/test.txt", headers), "us-east-1") is None
    refused = verify(Request("GET", "/test2.txt", headers), "us-east-1")
    assert refused is not None and b"SignatureDoesNotMatch" in refused[1]


@pytest.mark.parametrize("key", NAMES)
def test_keys_of_every_kind(s3, certificates, key):
    assert get(s3, certificates, key) == DATA


def test_a_cut_object_is_gone_on_with(s3, certificates):
    assert get(s3, certificates, "a.mp4", "cut", "503 1", "cut") == DATA
    assert [r.headers.get("range") is not None for r in s3.requests] == [False, True, True, True]


def test_temporary_keys_and_none(s3, certificates):
    assert get(s3, certificates, session_token_variable="TEST_TOKEN") == DATA
    assert s3.requests[-1].headers["x-amz-security-token"] == TOKEN
    with pytest.raises(MediaError, match="AccessDenied") as caught:
        get(s3, certificates, access_key_variable=None, secret_key_variable=None)
    assert caught.value.reason == "missing" and "authorization" not in s3.requests[-1].headers


def test_wrong_keys_are_the_jobs_error_and_stand_in_no_message(s3, certificates, monkeypatch):
    said = []
    for name, value, error in [
        ("TEST_SECRET_KEY", "another", MediaError),  # may be this one key, which a server reads in another way
        ("TEST_ACCESS_KEY", "AKIAWRONG", UserError),
        ("TEST_TOKEN", "expired", UserError),
        ("TEST_ACCESS_KEY", "", UserError),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(error) as caught:
                get(s3, certificates, session_token_variable="TEST_TOKEN")
        said.append(str(caught.value))
    assert "SignatureDoesNotMatch" in said[0] and "InvalidAccessKeyId" in said[1] and "InvalidToken" in said[2]
    assert "decoding.remote.s3.clips.access_key_variable: the environment variable TEST_ACCESS_KEY is not" in said[3]
    assert not [word for word in (ACCESS, SECRET, TOKEN, "AKIAWRONG") for text in said if word in text]


def test_another_region_and_redirects(s3, certificates):
    with pytest.raises(MediaError, match=r"400 \(AuthorizationHeaderMalformed\)"):
        get(s3, certificates, region="us-east-1")
    with pytest.raises(MediaError, match=r"look at region and endpoint of decoding\.remote\.s3\.clips"):
        get(s3, certificates, "a.mp4", "redirect https://localhost/clips/a.mp4")


def test_plain_http_only_where_the_endpoint_says_so(certificates, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with server(os.devnull, None, faults=defaultdict(list), authorise=verify) as running:
        running.content = {"/clips/a.mp4": DATA}.get
        assert get(running, certificates, endpoint=f"http://localhost:{running.port}") == DATA


def test_an_ipv6_address_that_ends_in_letters(certificates, monkeypatch):
    """Its end was taken for a port, which ended the job."""
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        connection.socket, "getaddrinfo", lambda host, port, type: [(AF_INET, SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    )
    with server(os.devnull, None, faults=defaultdict(list), authorise=verify) as running:
        running.content = {"/clips/a.mp4": DATA}.get
        assert get(running, certificates, endpoint=f"http://[fd00::a]:{running.port}") == DATA
    assert running.requests[-1].headers["host"] == f"[fd00::a]:{running.port}"
