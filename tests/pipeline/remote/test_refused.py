"""A stranger's table reaches no other host, no metadata service and no other file: every trick is refused by name."""

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import pipeline.remote.connection as connection
from config.cli import UserError
from config.remote import Bucket, Remote, authority
from data.addresses import refusal, refused
from data.places import File, parse, shown
from data.videos import read_videos
from eval.query.query import _path
from pipeline.readers import MediaError
from pipeline.remote.errors import Deadline
from pipeline.remote.fetching import fetched

SETTINGS = Remote(https=["media.example.org", "127.0.0.1:8443", "[::1]:9"], s3={"clips": Bucket()})

TRICKS = {
    "another host": ("https://evil.example/a.mp4", "https://evil.example is not in decoding.remote.https"),
    "a host that begins like it": ("https://media.example.org.evil.example/a.mp4", "is not in decoding.remote.https"),
    "a host that ends like it": ("https://evilmedia.example.org/a.mp4", "is not in decoding.remote.https"),
    "another port": ("https://media.example.org:8443/a.mp4", "org:8443 is not in decoding.remote.https"),
    "a user name": ("https://media.example.org@evil.example/a.mp4", "a user name or a password"),
    "a password": ("https://u:p@media.example.org/a.mp4", "a user name or a password"),
    "a backslash": ("https://media.example.org\\@evil.example/a.mp4", "backslash"),
    "a backslash before": ("https://evil.example\\.media.example.org/a.mp4", "backslash"),
    "a fragment": ("https://evil.example#@media.example.org/a.mp4", "fragment"),
    "a percent sign in the host": ("https://media.example.org%2eevil.example/a.mp4", "not the name of a host"),
    "letters beyond ASCII": ("https://media.exam\u2028ple.org/a.mp4", "not ASCII"),
    "a letter that looks like another": ("https://medi\u0430.example.org/a.mp4", "not ASCII"),
    "a full stop of another alphabet": ("https://media\u3002example.org/a.mp4", "not ASCII"),
    "a blank": ("https://media.example.org /a.mp4", "blank"),
    "a line break": ("https://media.example.org/a\r\nHost: evil.example", "control characters"),
    "the metadata service": ("https://169.254.169.254/latest/meta-data", "is not in decoding.remote.https"),
    "the metadata service as a number": ("https://2852039166/latest", "not an IPv4 address"),
    "the metadata service in hex": ("https://0xa9fea9fe/latest", "not an IPv4 address"),
    "the metadata service in octal": ("https://0251.0376.0251.0376/latest", "not an IPv4 address"),
    "a short address": ("https://127.1/a.mp4", "not an IPv4 address"),
    "an IPv6 address": ("https://[::ffff:169.254.169.254]/a.mp4", "is not in decoding.remote.https"),
    "an IPv6 address with a zone": ("https://[fe80::1%25eth0]/a.mp4", "not an IPv6 address"),
    "http": ("http://media.example.org/a.mp4", "protocol 'http' is not allowed"),
    "ftp": ("ftp://media.example.org/a.mp4", "protocol 'ftp'"),
    "file": ("file:///etc/hostname", "protocol 'file'"),
    "gopher": ("gopher://media.example.org/", "protocol 'gopher'"),
    "a list of FFmpeg": ("concat://a|b", "protocol 'concat'"),
    "a chain of fsspec": ("simplecache::https://media.example.org/a.mp4", ""),
    "another bucket": ("s3://other/a.mp4", "s3://other is not in decoding.remote.s3"),
    "a bucket in a host's name": ("s3://clips@evil/a.mp4", "a user name or a key before the bucket"),
    "a bucket outside": ("s3://clips/../other/a.mp4", "another bucket"),
    "a bucket outside, at the end": ("s3://clips/a/..", "another bucket"),
    "a signed address": (
        "https://media.example.org/a.mp4?X-Amz-Signature=secret",
        "holds a secret ('x-amz-signature')",
    ),
    "a token of a content network": ("https://media.example.org/a.mp4?hdnts=exp=1~acl=/*~hmac=secret", "('hdnts')"),
    "a token in the path": ("https://media.example.org/hdnea=exp=1~hmac=secret/a.mp4", "('hdnea')"),
    "a signature of another cloud": ("https://media.example.org/a.mp4?q-ak=a&q-signature=secret", "('q-signature')"),
    "a third one": ("https://media.example.org/a.mp4?x-oss-signature=secret", "('x-oss-signature')"),
    "a name with an escape": ("https://media.example.org/a.mp4?%54oken=secret", "('token')"),
    "a semicolon": ("https://media.example.org/a.mp4?a=1;wsSecret=secret", "('wssecret')"),
    "a key in an address": ("https://media.example.org/a.mp4?b=1&TOKEN=secret", "holds a secret ('token')"),
    "no port": ("https://media.example.org:/a.mp4", "not a port"),
    "a port that is too large": ("https://media.example.org:65536/a.mp4", "not a port"),
}


def told(text):
    """Why a text is not asked; None if it is, or if it is a file."""
    try:
        place = parse(text, exists=lambda path: False)
    except ValueError as error:
        return str(error)
    return "" if isinstance(place, File) else refusal(place, SETTINGS)


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_refused_by_name(trick):
    text, words = TRICKS[trick]
    why = told(text)
    assert why is not None and words in why, why
    assert "=secret" not in why


def test_what_is_allowed():
    for text in (
        "https://media.example.org/a.mp4",
        "HTTPS://MEDIA.example.org:443/a%20b/c.mp4?v=1",
        "https://media.example.org/token/signature.mp4?token&design=1&page-tokens=2",
        "https://127.0.0.1:8443/a.mp4",
        "https://[0:0::1]:9/a.mp4",
        "s3://clips/a//b c#d?é%41.mp4",
        "s3://clips/..a/b..",
    ):
        assert told(text) is None, text


@given(st.text(max_size=30), st.sampled_from(["https://", "s3://", "https://media.example.org", "s3://clips"]))
def test_nothing_but_the_list_is_allowed(text, before):
    try:
        place = parse(before + text, exists=lambda path: False)
    except ValueError:
        return
    if not isinstance(place, File) and refusal(place, SETTINGS) is None:
        name = (place.host, place.port or 443)
        assert name in SETTINGS.hosts if place.scheme == "https" else place.host in SETTINGS.s3


def test_by_default_nothing_is_asked():
    texts = ["https://a.example/x.mp4", "https://a.example/y.mp4", "s3://clips/z.mp4", "/data/here.mp4"]
    assert refused(texts, Remote()) == {
        "https://a.example is not in decoding.remote.https": 2,
        "s3://clips is not in decoding.remote.s3": 1,
    }
    with pytest.raises(MediaError, match="is not in"), fetched(parse(texts[0]), Remote().model_dump_json()):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "https://media.example.org/a.mp4?X-Amz-Signature=hidden",
        "https://media.example.org/hdnts=hidden/a.mp4",
        "https://media.example.org/a b.mp4?X-Amz-Signature=hidden",
        "https://media.example.org/a.mp4#token=hidden",
        "https://user:hidden@media.example.org/a.mp4",
        "https://hidden@media.example.org\\x/a.mp4",
        "s3://key:hidden@clips/a.mp4",
        "ftp://user:hidden@media.example.org/a.mp4",
    ],
)
@pytest.mark.parametrize("column", ["path", "audio_path"])
def test_a_secret_of_a_table_is_an_error_that_does_not_repeat_it(text, column, tmp_path):
    table = tmp_path / "videos.csv"
    other = {"path": "audio_path", "audio_path": "path"}[column]
    table.write_text(f"video_id,{column},{other}\na,a.mp4,b.mp4\nb,{text},c.mp4\n")
    with pytest.raises(UserError, match=rf"row 2 \(after the header\), column '{column}': ") as caught:
        read_videos(table)
    assert "hidden" not in str(caught.value)


def test_a_secret_of_a_query_is_not_repeated():
    with pytest.raises(UserError, match="a user name or a password") as caught:
        _path("https://user:hidden@media.example.org/a.mp4")
    assert "hidden" not in str(caught.value)


@given(st.text(max_size=20), st.sampled_from(["https", "s3", "ftp"]))
def test_what_is_shown_of_an_address_ends_where_secrets_begin(text, scheme):
    for secret in (f"{scheme}://u:{text}hidden@host/a", f"{scheme}://host/a?{text}hidden", f"{scheme}://host/a#hidden"):
        assert "hidden" not in shown(secret) and shown(secret).startswith(f"{scheme}://")


BAD_SETTINGS = {
    "a host with a path": {"https": ["a.example/x"]},
    "a host with a protocol": {"https": ["https://a.example"]},
    "all hosts": {"https": ["*"]},
    "all hosts of a domain": {"https": ["*.example.org"]},
    "a number as a host": {"https": ["2852039166"]},
    "a bucket's name": {"s3": {"Clips": {}}},
    "an endpoint without a protocol": {"s3": {"clips": {"endpoint": "a.example"}}},
    "an endpoint with a path": {"s3": {"clips": {"endpoint": "https://a.example/x"}}},
    "a password before a host": {"https": ["user:hidden@a.example"]},
    "a password before an endpoint": {"s3": {"clips": {"endpoint": "https://user:hidden@a.example"}}},
    "a password before a bucket": {"s3": {"user:hidden@clips": {}}},
    "one of two keys": {"s3": {"clips": {"access_key_variable": "A"}}},
    "a key in place of its variable": {
        "s3": {"clips": {"access_key_variable": "AKIAIOSFODNN7EXAMPLE", "secret_key_variable": "B"}}
    },
    "a secret in place of its variable": {
        "s3": {"clips": {"access_key_variable": "A", "secret_key_variable": "wJalrXUtnFEMI/K7MDENG"}}
    },
}


@pytest.mark.parametrize("kind", BAD_SETTINGS)
def test_settings_that_are_refused(kind):
    with pytest.raises(ValidationError) as caught:
        Remote.model_validate(BAD_SETTINGS[kind])
    said = "\n".join(problem["msg"] for problem in caught.value.errors())
    assert not [secret for secret in ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "hidden") if secret in said]


def test_hosts_of_settings():
    assert authority("Media.Example.org") == ("media.example.org", 443)
    assert authority("[::1]:80") == ("::1", 80)
    assert Bucket(region="eu-central-1").server == (True, "s3.eu-central-1.amazonaws.com", 443)
    assert Bucket(endpoint="http://minio:9000").server == (False, "minio", 9000)
    for wrong in (
        "",
        ":1",
        "a:0",
        "a:x",
        "a b",
        "a%2e",
        "1.2.3",
        "0x7f.1",
        "[::1",
        "-a",
        "a" * 300,
        "\u212a.org",
    ):
        with pytest.raises(ValueError, match="is not"):
            authority(wrong)
    with pytest.raises(ValueError, match="a user name or a password stands before the host"):
        authority("a@b")


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "::1", "fd12::1", "::",
    "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1", "255.255.255.255",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "2001:0:5db8:d822:0:0:80ff:fffe", "64:ff9b:1::1", "fec0::3",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "0.0.0.0", "224.0.0.1",
    "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe", "::a9fe:a9fe", "::ffff:0:169.254.169.254",
    "64:ff9b:1::1", "64:ff9b:1:a9fe:a9:fe00::", "2001:0:5db8:d822:0:0:5601:5601", "::ffff:100.100.100.200",
]  # fmt: skip


def test_addresses_of_hosts():
    assert [text for text in PRIVATE if connection.refusal(text, private=False) is None] == []
    assert [text for text in NEVER if connection.refusal(text, private=True) is None] == []
    for text in ("10.1.2.3", "127.0.0.1", "fd12::1", "::1", "::10.1.2.3", "93.184.216.34"):
        assert connection.refusal(text, private=True) is None
    assert connection.refusal("93.184.216.34", private=False) is None
    assert connection.refusal("2606:2800:220:1::1", private=False) is None


def answers(monkeypatch, *names):
    """Let the resolver say these addresses, one after the other."""
    left = list(names)

    def getaddrinfo(host, port, type=0):
        name = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port))]

    monkeypatch.setattr(connection.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
def test_a_name_that_means_a_private_address(monkeypatch, address):
    answers(monkeypatch, address)
    with (
        pytest.raises(MediaError, match=f"media.example.org is not asked: {address} is") as caught,
        fetched(parse("https://media.example.org/a.mp4"), SETTINGS.model_dump_json()),
    ):
        pass
    assert caught.value.reason == "missing"


def test_a_name_that_changes_after_it_was_checked(monkeypatch):
    """The checked address is connected to; a second look at the name, which now means another, does not happen."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as here:
        threading.Thread(target=lambda: asked.append(here.accept()), daemon=True).start()
        answers(monkeypatch, "127.0.0.1", "169.254.169.254")
        wire = connection.connect("name.example", here.getsockname()[1], None, True, Deadline(5))
        assert wire.socket.getpeername()[0] == "127.0.0.1"
        wire.socket.close()


def test_an_address_that_turns_out_to_be_another(monkeypatch):
    """As where a router or a local proxy answers in its place: the peer is looked at after the connection is made."""
    with socket.create_server(("127.0.0.1", 0)) as here:
        port = here.getsockname()[1]
        answers(monkeypatch, "93.184.216.34")

        class Turned(socket.socket):
            def connect(self, where):
                super().connect(("127.0.0.1", where[1]))

        monkeypatch.setattr(connection.socket, "socket", Turned)
        with pytest.raises(MediaError, match="is not asked: 127.0.0.1 is a private address"):
            connection.connect("name.example", port, None, False, Deadline(5))
