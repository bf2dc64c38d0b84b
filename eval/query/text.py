"""The answers as JSON, as rows of CSV and as tables for a terminal. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from config.cli import printable
from data.splits import Split
from eval.query.answer import Answer, Search
from eval.query.query import Query
from eval.query.scan import Level

COLUMNS = (
    "query,source,target,rank,video_id,title,artist,path,cosine,own,query_start,start,moment_cosine,gallery".split(",")
)


def as_json(query: Query, answers: Sequence[Answer], split: Split | None, level: Level) -> dict[str, Any]:
    """Return everything as one JSON object, with what it was computed from."""
    return {
        "experiment": query.run.experiment,
        "seed": query.run.seed,
        "keys": query.keys,
        "random_weights": query.record["random_weights"],
        "embeddings": query.record["digest"],
        "split": split,
        "level": level,
        "segment_seconds": query.config.segments.seconds,
        "answers": [_answer(answer) for answer in answers],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    written = asdict(answer)
    written["failures"] = [
        {"modality": modality, "reason": failure.reason, "message": failure.message}
        for modality, failures in answer.failures.items()
        for failure in failures
    ]
    return written


def as_rows(answers: Sequence[Answer]) -> Iterator[list[Any]]:
    """Yield a row of COLUMNS for every match."""
    for answer in answers:
        for search in answer.searches:
            for match in search.matches:
                moment = match.moment
                starts = ["" if start is None else f"{start:.2f}" for start in (moment.query_start, moment.start)]
                yield [
                    *(answer.query, search.source, search.target, match.rank, match.video_id, match.title),
                    *(match.artist, match.path, f"{match.cosine:.6f}", match.own, *starts),
                    *(f"{moment.cosine:.6f}", search.gallery),
                ]


def as_text(answers: Sequence[Answer]) -> str:
    """Return tables for people, a query after the other."""
    return "\n\n".join("\n".join(_lines(answer)) for answer in answers)


def _lines(answer: Answer) -> Iterator[str]:
    known = f" ({printable(answer.video_id)} of the collection)" if answer.video_id not in (None, answer.query) else ""
    yield f"{printable(answer.query, 300)}{known}"
    for reason, modalities in why_not(answer).items():
        yield f"  not searched by its {modalities}: {printable(reason, 300)}"
    for search in answer.searches:
        yield ""
        yield f"  {heading(search)}"
        yield from _table(search)


def why_not(answer: Answer) -> dict[str, str]:
    """Return what a query was not searched by: {reason and message: `audio`, `video` or `audio and video`}."""
    modalities: dict[str, list[str]] = {}
    for modality, failures in answer.failures.items():
        for failure in failures:
            modalities.setdefault(f"{failure.reason}: {failure.message}", []).append(modality)
    return {reason: " and ".join(names) for reason, names in modalities.items()}


def heading(search: Search) -> str:
    """Say what was compared with what, and where the query's own video came."""
    own = ""
    if search.own_rank is not None:
        own = f"; its own {search.target} has rank {search.own_rank:,.10g}, by chance {(search.gallery + 1) / 2:,.10g}"
    return f"its {search.source} → the {search.target} of {search.gallery:,} videos{own}"


def _table(search: Search) -> Iterator[str]:
    header = ["rank", "cosine", "id", "artist, title", "in the query", "in the video", "cosine there"]
    rows = [
        [
            f"{match.rank}{' *' if match.own else ''}",
            f"{match.cosine:.3f}",
            *map(printable, (match.video_id, ", ".join(filter(None, (match.artist, match.title))))),
            *map(minutes, (match.moment.query_start, match.moment.start)),
            f"{match.moment.cosine:.3f}",
        ]
        for match in search.matches
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for cells in (header, *rows):
        texts = [
            cell.ljust(width) if column in (2, 3) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield "  " + "  ".join(texts).rstrip()
    if any(match.own for match in search.matches):
        yield "  * the query itself"


def minutes(seconds: float | None) -> str:
    """Format seconds as a player shows them: `1:02.5`; `–` where they are not known."""
    if seconds is None:
        return "–"
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"
