"""Write the map of all videos to browse, report/atlas.parquet. `make explore` makes a site of it.

Reads the manifest, the cache, labels/ where these come from other files, every experiment's embeddings (by the first of
`heads.seeds`) and, of up to `eval.atlas.media_videos` videos, a few seconds of each. Writes into report/:
  atlas.parquet   a row for every video that is not retired and that all backbones of all experiments could read:
                  row, video_id, name (artist and title, or the id), artist, group, title, genre, tags, split;
                  EXPERIMENT_audio_pca_x, _y, EXPERIMENT_video_pca_x, _y: audio and video in that experiment's space;
                  features_BACKBONE_pca_x, _y; the same with umap for pca, where the package umap-learn is installed;
                  EXPERIMENT_audio_to_video_rank, EXPERIMENT_video_to_audio_rank: of test videos, the evaluation's rank
                  of the positive among all of them;
                  neighbours {ids, distances}: the rows of the 10 nearest videos, and 1 - the mean of the cosines of
                  audio and of video;
                  image, audio {bytes, path}: a JPEG and AAC; video: the address of a clip on the site
  atlas/media/    the clips
The table's metadata have a JSON `atlas`: which spaces there are, of which embeddings, and how neighbours were found.
work/atlas/ is used meanwhile. Memory grows with what stands in the rows, not with the features.

example: python -m eval.atlas --config results/demo/config.json --threads 2
"""

from __future__ import annotations

import json
import logging
import shutil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from config.cli import UserError, parser, run
from config.files import replacing
from config.heads import MODALITIES
from config.model import Config, read
from data.columns import FILES
from data.manifest import read_manifest
from eval.atlas.axes import METHODS, SAMPLE, has_umap, place
from eval.atlas.media import columns as media_columns
from eval.atlas.near import Neighbours, Vectors
from eval.atlas.vectors import Chosen, Embedded, Featured, choose, draw
from eval.ranks import DIRECTIONS, ranks
from eval.video_labels import with_labels

log = logging.getLogger("atlas")
LABELS = ("row", "video_id", "artist", "group", "title", "genre", "tags", "split")
NEIGHBOURS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
META = b"atlas"
"""The key of the table's metadata that says what is in it."""
ROW_GROUP = 50_000


class Atlas:
    """The atlas's columns while they are made. `spaces` says what was mapped, first the one to show first."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.spaces: list[dict[str, Any]] = []

    def add(self, columns: dict[str, Any]) -> None:
        """Add columns, arrays of numpy (NaN becomes null) or pyarrow. UserError if two have one name."""
        for name, values in columns.items():
            if name in self.table.column_names:
                raise UserError(
                    f"the atlas would have two columns '{name}': rename the experiment or the backbone of that name"
                )
            values = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
            self.table = self.table.append_column(name, values)


class Tested:
    """The test videos' vectors, collected while all vectors of a space go by."""

    def __init__(self, table: pa.Table) -> None:
        self.positions = np.flatnonzero(pc.fill_null(pc.equal(table["split"], "test"), False).to_numpy())
        self._blocks: list[dict[str, np.ndarray]] = []

    def add(self, positions: np.ndarray, vectors: dict[str, np.ndarray]) -> None:
        """Keep those of the videos at `positions` that are test videos."""
        tested = np.isin(positions, self.positions)
        self._blocks.append({part: block[tested] for part, block in vectors.items()})

    def columns(self, name: str, videos: int, unit: tuple[bool, bool]) -> dict[str, np.ndarray]:
        """Return the ranks in both directions, float64 [videos], NaN for videos of other splits."""
        directions = np.full((2, videos), np.nan)
        if len(self.positions) > 1:
            audio, video = (np.concatenate([block[part] for block in self._blocks]) for part in MODALITIES)
            log.info("%s: ranking %d test videos", name, len(audio))
            directions[:, self.positions] = ranks(audio, video, unit=unit)
        return {f"{name}_{way}_rank": by_direction for way, by_direction in zip(DIRECTIONS, directions, strict=True)}


def atlas(config: Config, threads: int = 1) -> pa.Table:
    """Write the atlas and return it. UserError if the cache or embeddings are missing, or of other keys."""
    settings, seed, paths = config.eval.atlas, config.eval.seed, config.paths
    chosen = choose(config)
    manifest = read_manifest(paths.manifest).take(pa.array(chosen.rows))
    manifest = with_labels(config, manifest)
    made = Atlas(manifest.select(list(LABELS)))
    made.add({"name": names(manifest)})
    made.add(media_columns(config, manifest.select(["row", "video_id", "path", *FILES]), _middles(chosen), threads))
    first = settings.experiment or next(iter(config.heads.experiments))
    experiments = sorted(config.heads.experiments, key=lambda name: name != first)
    umap = has_umap()
    if not umap:
        log.info("no coordinates by UMAP: the package umap-learn is not installed")
    sample = draw(len(chosen.rows), SAMPLE, seed)
    try:
        near = Vectors(paths.atlas_work)
        for name in experiments:
            _add_embedded(made, Embedded(config, name, chosen), sample, umap, seed, near if name == first else None)
        neighbours = near.find(seed)
    finally:
        shutil.rmtree(paths.atlas_work, ignore_errors=True)
    made.add({"neighbours": neighbour_column(chosen.rows, neighbours)})
    for backbone in (name for name in config.backbones if name in chosen.view.backbones):
        space = Featured(backbone, chosen, sample)
        mapped = place(space, len(chosen.rows), sample, umap)
        made.add(mapped.columns(seed))
        explained = mapped.axes.explained[:2] if mapped.axes else None
        made.spaces.append({"name": space.name, "parts": list(space.parts), "explained": explained})
    random = [name for name in config.used_backbones if chosen.view.random_weights(name)]
    for shown in made.spaces:
        of_features = "embeddings" not in shown
        read = [shown["name"].removeprefix("features_")] if of_features else config.sides(shown["name"]).backbones
        shown["random_weights"] = [name for name in random if name in read]
    about = {
        "spaces": made.spaces,
        "methods": list(METHODS if umap else METHODS[:1]),
        "neighbours": {"experiment": first, "recall": neighbours.recall},
        "videos": made.table.num_rows,
        "random_weights": random,
    }
    table = made.table.replace_schema_metadata({META: json.dumps(about)})
    with replacing(paths.atlas) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
    return table


def _add_embedded(
    made: Atlas, space: Embedded, sample: np.ndarray, umap: bool, seed: int, near: Vectors | None
) -> None:
    """Add an experiment's coordinates and ranks; its vectors also go into `near`, if it is the one for neighbours."""
    videos, tested = made.table.num_rows, Tested(made.table)
    taking = [tested.add] if near is None else [tested.add, near.add]
    mapped = place(space, videos, sample, umap, *taking)
    made.add(mapped.columns(seed))
    made.add(tested.columns(space.name, videos, space.unit))
    explained = mapped.axes.explained[:2] if mapped.axes else None
    about = {"name": space.name, "parts": list(space.parts), "explained": explained, "embeddings": space.digest}
    made.spaces.append(about)


def names(manifest: pa.Table) -> pa.Array:
    """Return what each video is called: artist and title, or the one that there is with its id, or the id alone."""
    title = pc.if_else(pc.equal(pc.utf8_length(pc.fill_null(manifest["title"], "")), 0), None, manifest["title"])
    with_id = pc.coalesce(title, manifest["video_id"])
    full = pc.binary_join_element_wise(manifest["artist"], with_id, " – ")
    return pc.coalesce(full, with_id).combine_chunks()


def neighbour_column(rows: np.ndarray, neighbours: Neighbours) -> pa.Array:
    """Return the column of neighbours, by the manifest's rows and by distance; fewer where the graph found fewer."""
    is_neighbour = neighbours.similarities > -np.inf
    offsets = pa.array(np.concatenate([[0], is_neighbour.sum(axis=1).cumsum()]), pa.int32())
    ids = pa.ListArray.from_arrays(offsets, pa.array(rows[neighbours.positions[is_neighbour]]))
    distances = np.maximum(1 - neighbours.similarities[is_neighbour], 0)
    return pa.StructArray.from_arrays(
        [ids, pa.ListArray.from_arrays(offsets, pa.array(distances))], fields=list(NEIGHBOURS)
    )


def _middles(chosen: Chosen) -> np.ndarray:
    """Return where each video's middle segment begins (s): openings are often black."""
    starts: np.ndarray = chosen.view.start()[chosen.rows, chosen.good.shape[1] // 2]
    return starts


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "eval.atlas", "cores to use").parse_args()
    torch.set_num_threads(arguments.threads)
    config = read(arguments.config)
    table = atlas(config, arguments.threads)
    log.info("wrote %s: %d videos, %d columns", config.paths.atlas, table.num_rows, table.num_columns)
    recall = json.loads(table.schema.metadata[META])["neighbours"]["recall"]
    if recall < 1:
        log.info("neighbours: %.1f %% of the true ones were found", 100 * recall)


if __name__ == "__main__":
    run(main)
