"""Train, validation and test splits of whole groups (data/groups.py), with shares of videos. Reads and writes nothing.

The first build of a manifest depends on its set of videos alone, not on their order. After that known videos keep their
split, a known group's new videos join it, and only new groups are assigned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from config.pipeline import Splits
from data.segments import uniform

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def assign(sizes: Mapping[str, int], taken: Mapping[str, int], shares: Splits) -> dict[str, str]:
    """Return the splits of new groups of `sizes` videos, given the number of videos already `taken` by each split.

    The largest groups come first. Each is drawn, by its name, among the splits that still have room for all of it, with
    the room as the chance; so large groups reach every split and small ones fill the shares up. Where no split has
    room for all of it, it is drawn among those with any room.
    """
    total = sum(sizes.values()) + sum(taken.values())
    room: dict[str, float] = {split: getattr(shares, split) * total - taken.get(split, 0) for split in SPLITS}
    assigned = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], uniform(f"order\0{name}"), name)):
        size = sizes[group]
        fitting = [split for split in SPLITS if room[split] >= size] or [split for split in SPLITS if room[split] > 0]
        assigned[group] = split = _drawn(f"split\0{group}", {split: room[split] for split in fitting})
        room[split] -= size
    return assigned


def _drawn(text: str, weights: Mapping[str, float]) -> str:
    """Return one of the names by a draw that depends on the text alone, with probabilities proportional to the
    weights."""
    rest = uniform(text) * sum(weights.values())
    for name, weight in weights.items():
        rest -= weight
        if rest < 0:
            return name
    return name


def splits_of(
    groups: Sequence[str], shares: Splits, known: Sequence[str | None] | None = None, moved: Iterable[int] = ()
) -> list[str]:
    """Return the split of every video, given its group, in the manifest's order.

    `known`: the present split of each video, or None. Videos keep it, except those at the positions `moved`, whose
    group has changed: they join the split of their new group, and keep their own if the group has no other videos.
    """
    moved = set(moved)
    known = known if known is not None else [None] * len(groups)
    kept = [None if i in moved else split for i, split in enumerate(known)]
    of_group: dict[str, str] = {}
    for own in (kept, known):  # the videos that stay come first
        for group, split in zip(groups, own, strict=True):
            if split is not None:
                of_group.setdefault(group, split)
    joined = [split or of_group.get(group) for split, group in zip(kept, groups, strict=True)]
    taken = Counter(split for split in joined if split is not None)
    new = Counter(group for split, group in zip(joined, groups, strict=True) if split is None)
    of_group |= assign(new, taken, shares)
    return [split or of_group[group] for split, group in zip(joined, groups, strict=True)]


def earlier_splits(video_ids: Sequence[str], artists: Sequence[str | None], shares: Splits) -> list[str]:
    """Return the splits by the rule of earlier versions, which drew each group independently.

    Artists were compared without case and surrounding blanks. `data.manifest` recognises earlier manifests by these
    splits, so that their videos keep them.
    """

    def draw(name: str) -> str:
        """Return the split of a group, by its name alone."""
        number = uniform(f"split\0{name}")
        if number < shares.train:
            return "train"
        return "validation" if number < shares.train + shares.validation else "test"

    of_artist = {name: draw(f"artist\0{name.strip().casefold()}") for name in set(artists) if name and name.strip()}
    pairs = zip(video_ids, artists, strict=True)
    return [of_artist.get(artist or "") or draw(f"video\0{video_id}") for video_id, artist in pairs]
