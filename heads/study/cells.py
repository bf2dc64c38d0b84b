"""What the study of correlation trains: cells, each one recipe on one kind of data at one correlation, with its seeds.

Reads and writes nothing. A cell is one file of the part's folder; the names of the files are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.cli import UserError
from config.model import Config


@dataclass(frozen=True)
class Cell:
    """Trainings that differ by their seed alone. `source` is `simulated` or `rendered`."""

    source: str
    kind: str
    """Kind of link, as in heads/study/pairing.py; simulated videos only have `all`."""
    recipe: str
    correlation: float
    videos: int
    """Simulated training videos; 0 where the videos are those of the collection."""
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        data = f"{self.videos}" if self.source == "simulated" else self.kind
        return f"{self.source}-{data}-{self.recipe}-{self.correlation:g}"


def few(config: Config) -> list[str]:
    """The recipes of the map and of the kinds of link. UserError for one that is not in `heads.experiments`."""
    names, chosen = list(config.heads.experiments), config.study.correlation.few
    for name in chosen:
        if name not in names:
            raise UserError(f"study.correlation.few: there is no experiment '{name}'; there are {sorted(names)}")
    return chosen or list(dict.fromkeys((names[0], names[-1])))


def cells(config: Config, rendered: bool) -> list[Cell]:
    """All cells of a configuration, each once; with `rendered`, those of rendered videos too."""
    c, every = config.study.correlation, list(config.heads.experiments)

    def of(source: str, kind: str, recipes: list[str], grid: list[float], sizes: list[int]) -> Iterator[Cell]:
        for recipe in recipes:
            for correlation in sorted(set(grid)):
                for videos in sizes:
                    null = kind == "all" and correlation == 0
                    # At 0 there are more: they show how often a recipe claims what is not there.
                    seeds = sorted({*config.study.seeds, *range(c.null_seeds)}) if null else config.study.seeds
                    yield Cell(source, kind, recipe, correlation, videos, tuple(seeds))

    s, r = c.simulated, c.rendered
    found = list(of("simulated", "all", every, [0, *s.grid], [s.videos]))
    found += of("simulated", "all", few(config), s.map_grid, s.sizes)
    if rendered:
        found += of("rendered", "all", every, [0, *r.grid], [0])
        for kind in r.kinds:
            found += of("rendered", kind, few(config), r.kinds_grid, [0])
    return list({cell.name: cell for cell in found}.values())
