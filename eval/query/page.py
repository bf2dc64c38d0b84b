"""The answers as one HTML page with a still and a player of each match. Reads the files that the moments are cut from,
in worker processes; writes only into the system's folder for temporary files, and deletes that.

Everything is inside the page, encoded anew and small (eval/report/clip.py); it runs no scripts and loads nothing. Text
from data is escaped by Jinja.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.query.answer import Answer
from eval.query.query import Query
from eval.query.text import heading, minutes, why_not
from eval.report.media import FOLDER, LIMIT, cut, key
from eval.report.page import environment, style


def page(query: Query, answers: Sequence[Answer]) -> str:
    """Return the page of these answers."""
    shown = [_shown(query, answer) for answer in answers]
    items = [item for one in shown for item in _items(one)]
    with tempfile.TemporaryDirectory(prefix="query-") as folder:
        media = cut(items, query.config, Path(folder))
        files = {clip: (_data(folder, name, "mp4"), _data(folder, name, "jpg")) for clip, name in media.names.items()}
    template = environment().get_template("query.html")
    return template.render(
        answers=shown,
        run=query.run,
        random_backbones=[name for name, is_random in query.record["random_weights"].items() if is_random],
        files=files,
        media=media,
        media_limit=LIMIT,
        key=key,
        minutes=minutes,
        style=style(),
    )


def _shown(query: Query, answer: Answer) -> dict[str, Any]:
    """Return an answer with the heading of each search and, of every moment, what its clip is cut from.

    Of a query without pictures the sound alone is played: a black frame looks as if something were missing.
    """
    searches: list[dict[str, Any]] = []
    for search in answer.searches:
        matches = []
        for match in search.matches:
            theirs = {"video_id": match.video_id, "path": match.path, "start": match.moment.start}
            theirs |= query.beside_path(match.video_id)
            asked = _of_query(query, answer, match.moment.query_start)
            matches.append({"match": match, "clip": theirs, "asked": asked})
        searches.append({"heading": heading(search), "matches": matches})
    sound_alone = any(failure.reason == "no_video_stream" for failure in answer.failures.get("video", []))
    return {"answer": answer, "why_not": why_not(answer), "searches": searches, "sound_alone": sound_alone}


def _of_query(query: Query, answer: Answer, start: float | None) -> dict[str, Any]:
    """Return what the query's own clip is cut from."""
    clip = {"video_id": f"\0{answer.path}", "path": answer.path, "start": start}  # no id has a NUL
    return clip | query.beside_path(answer.video_id)


def _items(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is to be cut of an answer, the first matches first."""
    cells = [cell for search in shown["searches"] for cell in search["matches"]]
    cells.sort(key=lambda cell: cell["match"].rank)
    return [item for cell in cells for item in (cell["clip"], cell["asked"])]


def _data(folder: str, name: str, suffix: str) -> str:
    kind = {"mp4": "video/mp4", "jpg": "image/jpeg"}[suffix]
    content = base64.b64encode(Path(folder, FOLDER, f"{name}.{suffix}").read_bytes()).decode()
    return f"data:{kind};base64,{content}"
