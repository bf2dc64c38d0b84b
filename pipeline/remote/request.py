"""One GET request for an address, with redirects, and what its answer means. Asks allowed servers; writes nothing."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urldefrag, urljoin

from config.cli import UserError, printable
from config.remote import HTTP_PORT, HTTPS_PORT, Remote
from data.addresses import refusal, server
from data.places import Address, parse
from pipeline.remote.connection import connect, contexts
from pipeline.remote.errors import Deadline, Forbidden, Late, Temporary, not_fetched
from pipeline.remote.signing import signed

REDIRECTS = {301, 302, 303, 307, 308}
MOST_REDIRECTS = 5
TRY_AGAIN = {408, 425, 429}
INVALID_KEYS = {"InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidClientTokenId"}
"""S3's words for keys that are wrong whatever file is asked for."""
MOST_INTERIM = 20
_BODY = 1 << 16


@dataclass(frozen=True)
class Answer:
    """An answer with a body: `status` 200 or 206."""

    status: int
    total: int
    """Bytes of the whole file."""
    first: int
    """Position in the file at which the body begins."""
    last: int
    """Position in the file of the body's last byte; -1 for an empty file."""
    etag: str | None
    """Identity of the file's content, to the byte; None if the server gives none."""
    body: http.client.HTTPResponse


class _Final(http.client.HTTPResponse):
    """An answer without the interim ones before it, such as 103 Early Hints (RFC 9110, 15.2)."""

    def begin(self) -> None:
        """Read the head. Raises http.client.HTTPException if it is none, or comes after MOST_INTERIM interim ones."""
        for _ in range(MOST_INTERIM + 1):
            super().begin()
            if not 100 < self.status < 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return
            self.headers = self.msg = None  # type: ignore[assignment]  # so that `begin` reads the next head
        raise http.client.HTTPException("no answer after all these interim ones")


class Server:
    """Asks for files as the settings allow. Certificates of authorities are read once."""

    def __init__(self, settings: Remote) -> None:
        self.settings = settings
        try:
            self._tls = contexts(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"decoding.remote.ca_file: {settings.ca_file} has no certificates: {error}") from None

    @contextmanager
    def get(self, address: Address, deadline: Deadline, headers: dict[str, str] | None = None) -> Iterator[Answer]:
        """Yield the answer to a GET of an address; the connection is closed when the `with` block ends.

        Raises MediaError (`missing`, `unreadable`), Forbidden, Temporary, Late; UserError for keys that are not set.
        """
        for redirected in [False] + [True] * MOST_REDIRECTS:
            if why := refusal(address, self.settings, redirected):
                raise not_fetched("missing", why)
            with self._asked(address, deadline, headers or {}) as response:
                location = response.headers.get("Location")
                if response.status in REDIRECTS and location is not None:
                    address = self._redirected(address, location)
                    continue
                yield _answer(address, response, deadline)
                return
        raise not_fetched("missing", f"{server(address)} redirects more than {MOST_REDIRECTS} times")

    def _redirected(self, address: Address, location: str) -> Address:
        if address.scheme == "s3":
            raise not_fetched(
                "missing",
                f"{server(address)} is redirected, which is not followed; look at region and endpoint of "
                f"decoding.remote.s3.{address.host}",
            )
        try:
            # A header is read as Latin-1, and is UTF-8 where it is not ASCII.
            escaped = quote(location.encode("latin-1"), safe="!#$%&'()*+,/:;=?@[\\]~")
            target = parse(urldefrag(urljoin(str(address), escaped))[0])
        except ValueError as error:
            raise not_fetched("missing", f"{server(address)} redirects, which is not followed: {error}") from None
        if not isinstance(target, Address):
            raise not_fetched("missing", f"{server(address)} redirects to no address")
        if target.scheme != "https" or (why := refusal(target, self.settings, redirected=True)):
            why = f"{server(target)} is no https address" if target.scheme != "https" else why
            raise not_fetched("missing", f"{server(address)} redirects, which is not followed: {why}")
        return target

    @contextmanager
    def _asked(self, address: Address, deadline: Deadline, extra: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        secure, host, port, target = True, address.host, address.port or HTTPS_PORT, address.target
        if address.scheme == "s3":
            secure, host, port = self.settings.s3[address.host].server
            target = f"/{address.host}/{quote(address.target, safe='/-_.~')}"
        shown = f"[{host}]" if ":" in host else host
        headers = [("Host", shown if port == (HTTPS_PORT if secure else HTTP_PORT) else f"{shown}:{port}")]
        if address.scheme == "s3":
            headers = signed(address.host, self.settings.s3[address.host], target, headers)
        # Bytes as they are: a length, a range and a digest mean nothing of a body that is packed.
        headers += [("User-Agent", "music-video-features"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
        headers += [("Connection", "close"), *extra.items()]
        wire = connect(host, port, self._tls if secure else None, self.settings.private_addresses, deadline)
        try:
            yield _sent(wire, target, headers, server(address))
        finally:
            wire.socket.close()


def _sent(wire: object, target: str, headers: list[tuple[str, str]], place: str) -> http.client.HTTPResponse:
    # The connection is there and the headers have the host: of a name, the end of an IPv6 address would be a port.
    connection = http.client.HTTPConnection("")
    connection.auto_open = 0
    connection.response_class = _Final
    connection.sock = wire
    try:
        connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()
    except TimeoutError:
        raise Temporary(f"{place}: no answer") from None
    except http.client.HTTPException as error:
        raise Temporary(f"{place}: the answer is not HTTP, or is cut ({type(error).__name__})") from None
    except OSError as error:
        raise Temporary(f"{place}: {error.strerror or error}") from None


def _answer(address: Address, response: http.client.HTTPResponse, deadline: Deadline) -> Answer:
    """Return what an answer means. Raises as `Server.get`."""
    status, place = response.status, server(address)
    says = f"{place} answers {status}"
    if status in (200, 206):
        return _content(response, place)
    code = _code(response, deadline) if address.scheme == "s3" and status in (400, 401, 403) else ""
    if code in INVALID_KEYS:
        raise Forbidden(f"{says} ({code})", code)
    if status in (401, 403):
        raise Forbidden(f"{says}{f' ({code})' if code else ''}: we may not read this file", code)
    if status in (404, 410):
        raise not_fetched("missing", f"{says}: there is no such file")
    if status in TRY_AGAIN or status >= 500:
        raise Temporary(says, _retry_after(response.headers.get("Retry-After")))
    if status == 416:
        raise Temporary(f"{says}: the file has become shorter")
    raise not_fetched("missing", f"{says}{f' ({code})' if code else ''}, not the file")


def _content(response: http.client.HTTPResponse, place: str) -> Answer:
    headers = response.headers
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise not_fetched(
            "unreadable", f"{place} sends the file packed ({printable(encoding, 20)}), which was not asked for"
        )
    lengths = {value.strip() for value in headers.get_all("Content-Length") or []}
    if headers.get("Transfer-Encoding") or len(lengths) != 1 or not re.fullmatch(r"\d{1,18}", length := lengths.pop()):
        raise not_fetched("unreadable", f"{place} does not say how long the file is, so a cut one would not be noticed")
    etag = headers.get("ETag")
    etag = etag.strip() if etag and not etag.strip().startswith("W/") else None
    if response.status == 200:
        return Answer(200, int(length), 0, int(length) - 1, etag, response)
    span = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", (headers.get("Content-Range") or "").strip())
    if span is None:
        raise Temporary(f"{place} sends a part of the file without saying which")
    first, last, total = map(int, span.groups())
    if last - first + 1 != int(length) or last >= total:
        raise Temporary(f"{place} sends a part of the file with contradictory lengths")
    return Answer(206, total, first, last, etag, response)


def _code(response: http.client.HTTPResponse, deadline: Deadline) -> str:
    """Return S3's word for an error; empty if the answer has none."""
    try:
        text = response.read1(_BODY).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, Late):
        return ""
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    return code[1] if code else ""


def _retry_after(text: str | None) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or as a date; None if it does not ask."""
    text = (text or "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, and numbers that no date can have
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
