"""Hosts and buckets as addresses and the configuration name them. Reads and writes nothing; imports no pydantic,
because decoding processes use it. Strict: what two programs read as two hosts would let a table reach a host that is
not allowed.
"""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_bucket(name: str) -> None:
    """Raise ValueError for what is not the name of an S3 bucket. What has an `@` may be a key, and is not repeated."""
    if not _BUCKET.fullmatch(name):
        shown = "a key" if "@" in name else f"'{name}'"
        raise ValueError(f"{shown} is no name of a bucket (3 to 63 of a-z, 0-9, '.', '-')")


def host_and_port(authority: str) -> tuple[str, int | None]:
    """Return host (in small letters; an IPv6 address without brackets) and port; None where none is given.

    ValueError for what is not in its usual form: a user name, a percent sign, letters beyond ASCII, an IPv4 address as
    one number or in hexadecimal digits. What stands before an `@` may be a password, and is not repeated.
    """
    if "@" in authority:
        raise ValueError("a user name or a password stands before the host; write the host alone")
    if not authority.isascii():  # some letters beyond ASCII become ASCII ones in small letters
        raise ValueError(f"'{authority}' is not ASCII; write a host in its ASCII form (xn--…)")
    authority = authority.lower()
    host, colon, port = authority, "", ""
    if authority.startswith("["):
        address, bracket, after = authority[1:].partition("]")
        colon, port = after[:1], after[1:]
        try:
            host = str(ipaddress.IPv6Address(address))
        except ValueError:
            bracket = ""
        if not bracket or "%" in address or colon not in ("", ":"):
            raise ValueError(f"'{authority}' is not an IPv6 address in brackets")
    else:
        host, colon, port = authority.partition(":")
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise ValueError(f"'{host}' is not the name of a host")
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                raise ValueError(f"'{host}' is not an IPv4 address in its usual form") from None
    if not colon:
        return host, None
    if not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise ValueError(f"'{port}' is not a port")
    return host, int(port)
