"""A saved figure shows every text whole."""

import numpy as np
from PIL import Image

from eval.report.plots.base import figure, save, styled


def test_a_label_wider_than_its_axes_is_not_cut_off(tmp_path):
    with styled():
        drawn = figure()
        axis = drawn.subplots()
        axis.set_yticks([0, 1], ["a name that takes a good part of the width", "b"])
        axis.set(xlabel="median rank of the positive, % of the gallery (left is better)")
        plot = save(drawn, tmp_path, "long", "A long label.")
    pixels = np.array(Image.open(tmp_path / "long.png").convert("L"))
    assert plot.width == pixels.shape[1] > 677, "wider than a figure usually is"
    assert (pixels[:, -2:] == 255).all(), "nothing reaches the edge"
