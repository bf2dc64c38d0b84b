"""What embedding-atlas 0.22 is told to show of an atlas: its `metadata.json`. Reads and writes nothing.

One page a space and method, with the map, a table and charts that filter it. Text of the videos is shown by renderers
that set text; the one template has a value that this project made (eval/atlas/media.py), escaped nevertheless.
"""

from __future__ import annotations

from typing import Any

VERSION = "0.22.0"
"""The version whose state this is; the last one that draws without WebGPU."""
ROW, NAME = "row", "name"
PLAYER = '<video controls preload="metadata" width="160" src="{{ value | escape }}"></video>'
TABLE = ("name", "artist", "title", "genre", "tags", "split", "video_id")
"""Columns of the table, beside ranks. Media are not in it: a table of players would load all of their beginnings."""
CHARTS = {"genre": False, "tags": True, "split": False, "artist": False}
"""Columns whose counts are shown, and whether each is a list."""
BADGES = ("video_id", "genre", "tags", "split")
MANY = 1000
"""Different values, above which a column is no help as colours or counts."""


def metadata(columns: list[str], about: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
    """Return the metadata of a site. `columns` are the table's, `about` what its metadata say (eval/atlas/__main__.py).

    `counts`: how many different values the columns of CHARTS have.
    """
    ranks = [name for name in columns if name.endswith("_rank")]
    charts: dict[str, Any] = {
        "predicates": {"type": "predicates", "title": "Filter by SQL"},
        "table": {"type": "instances", "title": "Videos", "columns": [*(n for n in TABLE if n in columns), *ranks]},
    }
    shown = {name: several for name, several in CHARTS.items() if 1 < counts.get(name, 0) <= MANY}
    for name, several in shown.items():
        charts[name] = {
            "type": "count-plot",
            "title": name,
            "data": {"field": name} | ({"isList": True} if several else {}),
        }
    for name in ranks:
        charts[name] = _histogram(name)
    category = next((name for name, several in shown.items() if not several), None)
    random = {space["name"] for space in about["spaces"] if space.get("random_weights")}
    layouts: dict[str, Any] = {}
    maps = [(*place, method) for place in _places(about) for method in about["methods"]]
    for name, part, method in maps:
        words = [name.replace("features_", "features of ", 1), part, method.upper()]
        title = " ".join(filter(None, [*words, "(random weights)" if name in random else ""]))
        x, y = ("_".join(filter(None, (name, part, method, axis))) for axis in "xy")
        data = {"x": x, "y": y, "text": NAME, "neighbors": "neighbours"}
        data |= {"image": "image"} if "image" in columns else {}
        data |= {"category": category} if category else {}
        number = str(len(layouts) + 1)
        charts[f"map {number}"] = {"type": "embedding", "title": title, "data": data}
        own = [rank for rank in ranks if rank.startswith(f"{name}_")]
        ids = [f"map {number}", "table", *shown, *own, "predicates"]
        layouts[number] = {"type": "list", "name": title, "chartIds": ids, "showTable": False}
    first = maps[0]
    x, y = ("_".join(filter(None, (*first, axis))) for axis in "xy")
    return {
        "props": {
            "data": {"id": ROW, "projection": {"x": x, "y": y}, "text": NAME, "neighbors": "neighbours"},
            # Labels that the application makes up are words of names, which say nothing about a place.
            "embeddingViewLabels": [],
            "initialState": {
                "version": VERSION,
                "charts": charts,
                "layouts": layouts,
                "layoutOrder": list(layouts),
                "currentLayout": "1",
                "columnStyles": styles(columns, first[0]),
            },
        },
        "isStatic": True,
        "database": {"type": "wasm", "load": True},
    }


def styles(columns: list[str], space: str) -> dict[str, Any]:
    """Return how columns are shown in a video's card: name, media, labels, and the ranks in this space."""
    shown: dict[str, Any] = {}
    for name in columns:
        if name == NAME:
            shown[name] = {"display": "full"}
        elif name == "image":
            shown[name] = {"renderer": "image", "options": {"size": 96}, "display": "full"}
        elif name == "audio":
            shown[name] = {"renderer": "audio", "display": "full"}
        elif name == "video":
            shown[name] = {"renderer": "liquid-template", "options": {"template": PLAYER}, "display": "full"}
        elif name in BADGES or (name.startswith(f"{space}_") and name.endswith("_rank")):
            shown[name] = {"display": "badge"}
        else:
            shown[name] = {"display": "hidden"}
    return shown


def _places(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (space, part) of all maps, the first space first."""
    return [(space["name"], part) for space in about["spaces"] for part in space["parts"]]


def _histogram(name: str) -> dict[str, Any]:
    """Return a histogram of a column, whose bars are brushed to filter."""
    bars = {"mark": "bar", "encoding": {"x": {"field": name}, "y": {"aggregate": "count"}}}
    return {
        "title": name,
        "layers": [bars | {"style": {"fillColor": "$markColorFade"}}, bars | {"filter": "$filter"}],
        "selection": {"brush": {"encoding": "x"}},
        "widgets": [{"type": "scale.type", "channel": "x"}],
    }
