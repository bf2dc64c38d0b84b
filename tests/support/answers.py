"""A made-up answer of the study."""

from __future__ import annotations

from study.answer import Answer, Finding
from study.page import ROWS
from tests.support.page import EVIL


def answer(part: str, random: bool = True, words: str = EVIL) -> Answer:
    """Return a made-up answer, hostile throughout."""
    rows = [
        {"genre": words, "rank": 3.5 + i, "rank_low": 1.0, "rank_high": 7.25, "p": 1e-7, "better": i > 0}
        for i in range(ROWS + 3)
    ]
    return Answer(
        part=part,
        title=f"{part} {words}",
        question=f"Is {words} so?",
        findings=[Finding(f"Claim of {part} in `{words}`", f"interval {words}"), Finding("Second", "not at all")],
        method=f"By {words}.",
        limits=[f"Not {words}"],
        random_weights=["r2plus1d"] if random else [],
        seeds=[0, 1],
        command=f"python -m study.{part}.measure --config '{words}'",
        tables={"ranks": rows, "mixed": [{"value": 0.25, "low": None, "high": None, "what": ["a", words]}], "none": []},
    )
