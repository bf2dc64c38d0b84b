"""Names, units and places of descriptors that people can read: tempo, brightness and so on. Reads and writes nothing.

Two arrays of the store hold them, computed by `sound_descriptors.py` and `picture_descriptors.py`. In either the first
columns are descriptors of the segment; the other BINS are an envelope of its first three seconds, a bin a tenth of a
second: how strongly notes begin in the sound, how much changes in the picture. What a segment shorter than
that lacks is 0.

A direction (of a colour on the wheel, of a key on the circle of fifths) is two columns, the cosine and the sine of its
angle. All units keep the numbers where float16 has a relative precision of 1/2048.
"""

from __future__ import annotations

from dataclasses import dataclass

BINS, BIN_SECONDS = 30, 0.1


@dataclass(frozen=True)
class Descriptor:
    """One property of a segment. `columns` is 1, or 2 (cosine, sine) for a direction."""

    name: str
    unit: str
    meaning: str
    columns: int = 1


SOUND = (
    Descriptor("tempo", "beats/min", "beats a minute, 60 to 190; 0 where no beat is found"),
    Descriptor("beats_confidence", "", "autocorrelation of the onset strength one beat later, 0 to 1"),
    Descriptor("loudness", "LUFS", "integrated loudness, EBU R 128, as from two loudspeakers; at least -70"),
    Descriptor("dynamic_range", "dB", "mean deviation of the level from its mean (dynamic complexity)"),
    Descriptor("spectral_centroid", "kHz", "centre of gravity of the magnitude spectrum; 0 of silence"),
    Descriptor("onset_rate", "1/s", "beginnings of notes a second"),
    Descriptor("key_strength", "", "correlation with the profile of the best key, -1 to 1; 0 of silence"),
    Descriptor("key", "", "place of the best key's tonic on the circle of fifths, C at 0; (0, 0) of silence", 2),
    Descriptor("mode", "", "1: the best key is major; 0: minor, or silence"),
    Descriptor("danceability", "", "inverse exponent of the level's fluctuations, about 0 to 3"),
)
PICTURE = (
    Descriptor("cut_rate", "1/s", "cuts a second"),
    Descriptor("motion_energy", "", "mean change between pictures 0.1 s apart inside a shot, share of full range"),
    Descriptor("brightness", "", "mean luma (BT.601), 0 to 1"),
    Descriptor("saturation", "", "mean saturation (HSV), 0 to 1"),
    Descriptor("colourfulness", "", "Hasler and Süsstrunk's M3, 0 (grey) to about 110"),
    Descriptor("dominant_hue", "", "angle of the most frequent hue, red 0, green 120°; (0, 0) of grey pictures", 2),
    Descriptor("contrast", "", "standard deviation of luma inside a picture, 0 to 0.5"),
)
DESCRIPTORS = {"sound_descriptors": SOUND, "picture_descriptors": PICTURE}
ENVELOPES = {"sound_descriptors": "onset", "picture_descriptors": "change"}


def places(backbone: str) -> dict[str, slice]:
    """{descriptor: its columns of the array}, in order; last the envelope's, as `onset` or `change`."""
    found, at = {}, 0
    for each in DESCRIPTORS[backbone]:
        found[each.name] = slice(at, at + each.columns)
        at += each.columns
    return found | {ENVELOPES[backbone]: slice(at, at + BINS)}


def columns(backbone: str) -> list[str]:
    """The name of every column of the array: `tempo`, … `key_cos`, `key_sin`, … `onset_00` to `onset_29`."""
    names = []
    for each in DESCRIPTORS[backbone]:
        names += [each.name] if each.columns == 1 else [f"{each.name}_cos", f"{each.name}_sin"]
    return names + [f"{ENVELOPES[backbone]}_{k:02d}" for k in range(BINS)]


WIDTHS = {backbone: len(columns(backbone)) for backbone in DESCRIPTORS}
