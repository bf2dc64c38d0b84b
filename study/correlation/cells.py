"""The cells of the study of correlation: one recipe on one kind of data at one correlation, with all its seeds.

Reads and writes nothing. Each cell is one file of study/correlation/; the names of the files are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.cli import UserError
from config.model import Config


@dataclass(frozen=True)
class Cell:
    """Trainings that differ only in their seed. `source` is `simulated` or `rendered`."""

    source: str
    kind: str
    """Kind of link, as in study/correlation/pairing.py; simulated videos have only `all`."""
    recipe: str
    correlation: float
    videos: int
    """Number of simulated training videos; 0 for rendered videos."""
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its file, without suffix."""
        data = f"{self.videos}" if self.source == "simulated" else self.kind
        return f"{self.source}-{data}-{self.recipe}-{self.correlation:g}"


def few(config: Config) -> list[str]:
    """Return the recipes of the map and of the kinds of link. UserError for one not in `heads.experiments`."""
    names, chosen = list(config.heads.experiments), config.study.correlation.few
    for name in chosen:
        if name not in names:
            raise UserError(f"study.correlation.few: there is no experiment '{name}'; there are {sorted(names)}")
    return chosen or list(dict.fromkeys((names[0], names[-1])))


def cells(config: Config, rendered: bool) -> list[Cell]:
    """List all cells of a configuration, each once; with `rendered`, those of rendered videos too."""
    settings, every = config.study.correlation, list(config.heads.experiments)

    def of(source: str, kind: str, recipes: list[str], grid: list[float], sizes: list[int]) -> Iterator[Cell]:
        for recipe in recipes:
            for correlation in sorted(set(grid)):
                for videos in sizes:
                    null = kind == "all" and correlation == 0
                    # More seeds at 0, to count how often a recipe seems to beat chance.
                    seeds = sorted({*config.study.seeds, *range(settings.null_seeds)}) if null else config.study.seeds
                    yield Cell(source, kind, recipe, correlation, videos, tuple(seeds))

    simulated, rendered_settings = settings.simulated, settings.rendered
    listed = list(of("simulated", "all", every, [0, *simulated.grid], [simulated.videos]))
    listed += of("simulated", "all", few(config), simulated.map_grid, simulated.sizes)
    if rendered:
        listed += of("rendered", "all", every, [0, *rendered_settings.grid], [0])
        for kind in rendered_settings.kinds:
            listed += of("rendered", kind, few(config), rendered_settings.kinds_grid, [0])
    return list({cell.name: cell for cell in listed}.values())
