"""Run the original network of the wheel musicnn==0.1.0 on the patches of musicnn_synth.npz, and write what it gives.

This made musicnn_mtt.npz (and, with MSD_musicnn, gives the `_f32` numbers of musicnn_synth.npz again). It needs
TensorFlow, which this project does not install, so it runs in an environment of its own (Python 3.11):

    pip install tensorflow-cpu==2.15.1 numpy==1.26.4
    pip download --no-deps musicnn==0.1.0 && python -m zipfile -e musicnn-0.1.0-py3-none-any.whl wheel
    python tests/golden/musicnn_original.py wheel MTT_musicnn tests/golden/musicnn_mtt.npz

The graph is built by the wheel's own musicnn/models.py, and its weights are restored by TensorFlow from the wheel's own
checkpoint: nothing of this project takes part. Patches go in as float32, so the float16 step of the original front-end
is left out.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

NAMES = ("mean_pool", "max_pool", "penultimate", "tags")


def outputs(wheel: Path, model: str, patches: np.ndarray) -> dict[str, np.ndarray]:
    """Return the original's `mean_pool`, `max_pool` [n, 753], `penultimate` [n, 200], `tags` [n, 50] of patches
    [n, 187, 96] float32, all float32. `wheel` is the unpacked wheel, `model` MSD_musicnn or MTT_musicnn."""
    sys.path.insert(0, str(wheel))
    tensorflow, models = importlib.import_module("tensorflow"), importlib.import_module("musicnn.models")
    v1 = tensorflow.compat.v1
    v1.disable_eager_execution()
    with tensorflow.name_scope("model"):
        x = v1.placeholder(tensorflow.float32, [None, *patches.shape[1:]])
        is_training = v1.placeholder(tensorflow.bool)
        logits, *_, mean_pool, max_pool, penultimate = models.define_model(x, is_training, model, 50)
        wanted = mean_pool, max_pool, penultimate, tensorflow.nn.sigmoid(logits)
    with v1.Session() as session:
        v1.train.Saver().restore(session, f"{wheel}/musicnn/{model}/")
        values = session.run(wanted, {x: patches, is_training: False})
    return {f"{name}_f32": np.asarray(value, np.float32) for name, value in zip(NAMES, values, strict=True)}


def main() -> None:
    """Command line: WHEEL MODEL OUT.npz."""
    wheel, model, out = sys.argv[1:]
    golden = np.load(Path(__file__).with_name("musicnn_synth.npz"))
    np.savez_compressed(out, **outputs(Path(wheel), model, golden["patches_f32"]))


if __name__ == "__main__":
    main()
