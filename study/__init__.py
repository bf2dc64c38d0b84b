"""The study: open questions of the paper, each in a folder of its own. docs/extending.md says how to add one."""

from typing import get_args

import config  # noqa: F401  # before PyTorch is loaded: see config/threads.py
from config.study import Question, Study

QUESTIONS: tuple[str, ...] = get_args(Question)
"""Their folders here, their sections in `study` of the configuration and their answers' names, in the page's order."""


def asked(study: Study) -> list[str]:
    """Return the questions of a configuration, in the page's order."""
    return [question for question in QUESTIONS if question in study.questions]
