"""The study: open questions of the paper, each in a folder of its own. docs/extending.md says how to add one."""

import config  # noqa: F401  # before PyTorch is loaded: see config/threads.py

QUESTIONS = ("correlation", "length", "aggregation", "fusion", "relations")
"""Their folders here, their sections in `study` of the configuration and their answers' names, in the page's order."""
