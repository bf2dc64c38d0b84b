"""Asks before a job begins whether it may have its remote files at all, so that wrong keys or a network that is down do
not mark a whole shard as failed. Asks the hosts and buckets of the job's videos; writes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from config.cli import UserError
from config.remote import Remote
from data.addresses import refusal, server
from data.places import Address, parse
from pipeline.readers import MediaError
from pipeline.remote.errors import Deadline, Forbidden, Late, Temporary
from pipeline.remote.request import INVALID_KEYS, Server
from pipeline.remote.signing import keys

ASKED = 5
"""Files of a host or bucket that are asked for at most; the first one that may be had is enough."""
SECONDS = 15.0
"""Longest time for one of them."""
FEWEST = 10
"""Remote files of a job from which on silent hosts stop it. Fewer may all be of a host that is gone for good."""
PAUSE = 1.0
AT_ONCE = 8
"""Hosts and buckets that are asked at the same time."""


def check_access(videos: Iterable[Mapping[str, Any]], settings: Remote) -> None:
    """Ask for the first byte of some of the files of these videos (`path`, and `audio_path` where they have one).

    Raises UserError if variables with keys are not set, if a host or bucket refuses all that it is asked for (401,
    403), or if no host can be reached. A single file that is refused or not there is the job's business.
    """
    paths = (video.get(name) for video in videos for name in ("path", "audio_path"))
    places = _by_place((path for path in paths if path), settings)
    if not places:
        return
    for name, bucket in settings.s3.items():
        if f"s3://{name}" in places:
            keys(name, bucket)
    source = Server(settings)
    with ThreadPoolExecutor(min(AT_ONCE, len(places))) as pool:
        answers = list(pool.map(lambda item: _ask(source, *item), places.items()))
    problems = [problem for problem in answers if problem is not None]
    if len(problems) == len(places) and sum(map(len, places.values())) >= FEWEST:
        raise UserError(
            f"no host of this job's videos can be reached, for example {problems[0]}. Nothing is noted as failed; run "
            "again when the network is back, or take the host out of decoding.remote"
        )
    for problem in problems:
        logging.getLogger("remote").warning("%s; its videos are tried all the same", problem)


def _by_place(paths: Iterable[str], settings: Remote) -> dict[str, list[Address]]:
    places: dict[str, list[Address]] = {}
    for path in paths:
        if "://" in path and isinstance(address := parse(path), Address) and refusal(address, settings) is None:
            places.setdefault(server(address), []).append(address)
    return places


def _spread(addresses: Sequence[Address]) -> list[Address]:
    """Return up to ASKED of them, evenly spread."""
    count = min(ASKED, len(addresses))
    return [addresses[number * len(addresses) // count] for number in range(count)]


def _ask(source: Server, place: str, addresses: Sequence[Address]) -> str | None:
    """Return why a host cannot be reached; None if it can. Raises UserError if it refuses all that it is asked for."""
    refusals: list[Forbidden] = []
    problem: str | None = None
    asked = _spread(addresses)
    for number, address in enumerate(asked):
        if number and problem:
            time.sleep(PAUSE)
        try:
            with source.get(address, Deadline(SECONDS), {"Range": "bytes=0-0"}):
                return None
        except MediaError:
            return None
        except Forbidden as error:
            refusals.append(error)
            if error.code in INVALID_KEYS:
                break
        except Temporary as error:
            if error.connected:
                return None
            problem = str(error)
        except Late:
            problem = f"{place}: no answer within {SECONDS:g} s"
    if refusals and (refusals[-1].code in INVALID_KEYS or (len(refusals) == len(asked) and len(refusals) > 1)):
        key = f"decoding.remote.s3.{addresses[0].host}" if addresses[0].scheme == "s3" else "decoding.remote.https"
        raise UserError(
            f"{refusals[-1]}; {len(refusals)} of this job's {len(addresses)} videos from there were asked for. Mend "
            f"the keys or the permissions ({key}), and run again; nothing is noted as failed"
        )
    return problem if not refusals else None
