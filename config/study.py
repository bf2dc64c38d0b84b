"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from config.section import Section


class Study(Section):
    """What `snakemake study` runs. Every part reads the cache of this results folder."""

    seeds: list[int] = [0, 1, 2, 3, 4]
    """Every training of the study runs once with each."""
