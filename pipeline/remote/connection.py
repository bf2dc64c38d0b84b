"""A connection to an allowed host: to none of its addresses that are not, and within a deadline. Asks the system's
resolver, and the host; writes nothing.

A name is resolved once, its addresses are checked, and the connection goes to a checked address, not to the name: what
the name means a moment later does not matter. No proxy is used, whatever the environment says.
"""

from __future__ import annotations

import io
import ipaddress
import socket
import ssl
import threading
from typing import Any

from pipeline.remote.errors import Deadline, Late, Temporary, not_fetched

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
# Where clouds hand out the credentials of their machines. Link-local ones, which most use, are refused as such.
METADATA = {
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200", "192.0.0.192", "168.63.129.16",
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe",
    )
}  # fmt: skip
TRANSLATED = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")]
"""Prefixes under which networks with IPv6 only reach IPv4, and the old form of an IPv4 address in IPv6."""
OWN_TRANSLATION = ipaddress.ip_network("64:ff9b:1::/48")
"""Prefix of a network's own translation to IPv4; where in it the IPv4 address stands is known to that network alone."""


def inner(address: Ip) -> Ip:
    """Return the IPv4 address that an IPv6 one stands for (mapped, 6to4, Teredo's client, translated); other addresses
    as they are."""
    if not isinstance(address, ipaddress.IPv6Address) or int(address) < 2:  # `::` and `::1` mean themselves
        return address
    if any(address in prefix for prefix in TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address


def refusal(text: str, private: bool) -> str | None:
    """Say why the address of a host must not be asked; None if it may. `private`: private networks may."""
    address = inner(ipaddress.ip_address(text.partition("%")[0]))
    if address.is_link_local or address in METADATA:
        return "a link-local address or one of a cloud's own services, which are never asked"
    if address in OWN_TRANSLATION:
        return "an address of this network's own translation to IPv4, which may lead to such services"
    if address.is_multicast or address.is_unspecified or address == ipaddress.ip_address("255.255.255.255"):
        return "not the address of one host"
    # Site-local ones (fec0::/10) are the private addresses of old IPv6, which Python calls global.
    if not private and (not address.is_global or (address.version == 6 and address.is_site_local)):
        return "a private address, and decoding.remote.private_addresses is false"
    return None


class Wire:
    """A socket as `http.client` uses it: no step takes longer than the deadline allows."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self.socket, self._deadline = connected, deadline

    def sendall(self, data: bytes) -> None:
        """Send all of `data`. Raises Late, OSError."""
        self.socket.settimeout(self._deadline.patience())
        self.socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what reads from the socket; every single read has the rest of the deadline."""
        return io.BufferedReader(_Reader(self.socket, self._deadline), 1 << 16)

    def close(self) -> None:
        """Do nothing: `http.client` closes its connection before the body has been read."""


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.patience())
        return self._socket.recv_into(buffer)


def connect(host: str, port: int, tls: ssl.SSLContext | None, private: bool, deadline: Deadline) -> Wire:
    """Return a connection to `host`. `tls`: None for one that is not encrypted.

    Raises MediaError `missing` if none of the host's addresses may be asked; Temporary; Late.
    """
    addresses = _resolved(host, port, deadline)
    refusals = {found[4][0]: refusal(str(found[4][0]), private) for found in addresses}
    allowed = [found for found in addresses if refusals[found[4][0]] is None]
    if not allowed:
        address, why = next(iter(refusals.items()))
        raise not_fetched("missing", f"{host} is not asked: {address} is {why}")
    problem = Temporary(f"{host}: there is no connection", connected=False)
    for family, kind, protocol, _, where in allowed:
        try:
            return Wire(
                _connected(socket.socket(family, kind, protocol), where, host, tls, private, deadline), deadline
            )
        except ssl.SSLCertVerificationError as error:
            problem = Temporary(
                f"{host}: its certificate is not trusted ({error.verify_message}; decoding.remote.ca_file)",
                connected=False,
            )
        except TimeoutError:
            problem = Temporary(f"{host} port {port}: no answer", connected=False)
        except OSError as error:
            problem = Temporary(f"{host} port {port}: {error.strerror or error}", connected=False)
    raise problem


def _connected(
    plain: socket.socket, where: Any, host: str, tls: ssl.SSLContext | None, private: bool, deadline: Deadline
) -> socket.socket:
    try:
        plain.settimeout(deadline.patience())
        plain.connect(where)
        peer = plain.getpeername()[0]
        if why := refusal(peer, private):
            raise not_fetched("missing", f"{host} is not asked: {peer} is {why}")
        if tls is None:
            return plain
        plain.settimeout(deadline.patience())
        return tls.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _resolved(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Ask the system's resolver, which knows no time limit, in a thread of its own."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.append(error)
        except UnicodeError:
            answers.append(OSError(f"{host} is no name"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(deadline.patience(most=deadline.seconds))
    if not answers:
        raise Late
    if isinstance(answers[0], OSError):
        raise Temporary(f"{host}: the name has no address ({answers[0].strerror or answers[0]})", connected=False)
    found: list[Any] = answers[0]
    return found


def contexts(ca_file: str | None) -> ssl.SSLContext:
    """Return what checks servers' certificates: against the system's authorities, or those in `ca_file` alone.

    Raises OSError for a file that cannot be read, ssl.SSLError for one without certificates.
    """
    return ssl.create_default_context(cafile=ca_file)
