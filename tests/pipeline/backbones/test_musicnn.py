"""MusicNN against the original network's own numbers (tests/golden), through both engines.

The golden file holds a computed waveform of 6 s, and what musicnn 0.1.0's own graph made of it; `_f32` are its numbers
without the float16 step of its front-end. `musicnn_mtt.npz` has those of the weights `wheel-mtt` on the same patches;
musicnn_original.py made it. The essentia engine runs in one process of its own, as in the pipeline.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from config.cli import UserError
from pipeline.backbones import graphdef, mel, musicnn_essentia
from pipeline.backbones.musicnn import MusicNN
from pipeline.backbones.musicnn_weights import affine
from pipeline.readers import AudioRequest
from tests.support.commands import ROOT, execute
from tests.support.weights_fixture import config_of, converted_musicnn

GOLDEN = np.load(ROOT / "tests" / "golden" / "musicnn_synth.npz")
WAVE = (GOLDEN["pcm16"] / np.float32(32768)).astype(np.float32)
POOLED = np.stack([GOLDEN["max_pool_f32"], GOLDEN["mean_pool_f32"]], 2).reshape(2, 1506)
MTT = np.load(ROOT / "tests" / "golden" / "musicnn_mtt.npz")
SECONDS_3 = 48000

# Runs in a fresh interpreter: answers for every array `patches*` and `segments*` of an npz file.
ESSENTIA = """
import sys
from pathlib import Path
import numpy as np
from pipeline.backbones.musicnn import MusicNN
given, answers = np.load(sys.argv[2]), {}
net = MusicNN(Path(sys.argv[1]), {"engine": "essentia"}, "cpu", 1)
for key in given:
    if key.startswith("patches"):
        answers |= {f"{key}_{name}": values for name, values in net.outputs(given[key]).items()}
    else:
        answers[key] = net.features(given[key])
assert "torch" not in sys.modules and "decord" not in sys.modules
np.savez(sys.argv[3], **answers)
"""


def through_essentia(folder: Path, weights: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    np.savez(folder / "in.npz", **arrays)
    command = [sys.executable, "-c", ESSENTIA, str(weights), str(folder / "in.npz"), str(folder / "out.npz")]
    done = execute(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == "", "essentia or TensorFlow chatters"
    return dict(np.load(folder / "out.npz"))


def segments_for_batches() -> np.ndarray:
    """Three segments that differ as much as they can: silence, music, noise at full scale."""
    noise = np.random.default_rng(0).uniform(-1, 1, SECONDS_3)
    return np.stack([np.zeros(SECONDS_3), WAVE[:SECONDS_3], noise]).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return converted_musicnn(tmp_path_factory.mktemp("musicnn"))


@pytest.fixture(scope="module")
def net(weights):
    return MusicNN(weights, {"engine": "torch"}, "cpu", 1)


@pytest.fixture(scope="module")
def answers(weights, net, tmp_path_factory):
    """{engine: {question: answer}}."""
    batch = segments_for_batches()
    questions = {"segments": WAVE[None], "segments3": WAVE[None, :SECONDS_3], "segments_batch": batch}
    patches = GOLDEN["patches_f32"]
    essentia = through_essentia(tmp_path_factory.mktemp("essentia"), weights, patches=patches, **questions)
    outputs = {f"patches_{name}": values for name, values in net.outputs(patches).items()}
    return {"torch": outputs | {k: net.features(v) for k, v in questions.items()}, "essentia": essentia}


@pytest.mark.parametrize("engine", ["torch", "essentia"])
def test_golden_patches(answers, engine):
    outputs = answers[engine]
    assert np.abs(outputs["patches_tags"] - GOLDEN["tags_f32"]).max() <= 1e-4
    assert np.abs(outputs["patches_penultimate"] - GOLDEN["penultimate_f32"]).max() <= 1e-3
    assert np.abs(outputs["patches_pooled"] - POOLED).max() <= 1e-3


def test_golden_patches_of_the_weights_from_magnatagatune(tmp_path):
    weights = converted_musicnn(tmp_path, "wheel-mtt")
    patches = GOLDEN["patches_f32"]
    pooled = np.stack([MTT["max_pool_f32"], MTT["mean_pool_f32"]], 2).reshape(2, 1506)
    assert np.abs(pooled - POOLED).max() > 10  # other weights
    torch_outputs = MusicNN(weights, {"engine": "torch"}, "cpu", 1).outputs(patches)
    essentia = through_essentia(tmp_path, weights, patches=patches)
    for outputs in (torch_outputs, {name: essentia[f"patches_{name}"] for name in torch_outputs}):
        assert np.abs(outputs["tags"] - MTT["tags_f32"]).max() <= 1e-4
        assert np.abs(outputs["penultimate"] - MTT["penultimate_f32"]).max() <= 1e-3
        assert np.abs(outputs["pooled"] - pooled).max() <= 1e-3


@pytest.mark.parametrize("engine", ["torch", "essentia"])
def test_golden_waveform_end_to_end(answers, engine):
    whole = np.stack([GOLDEN["max_pool_f32"].max(0), GOLDEN["mean_pool_f32"].mean(0)], 1).ravel()
    assert answers[engine]["segments"].shape == (1, 1506) and answers[engine]["segments"].dtype == np.float32
    assert np.abs(answers[engine]["segments"][0] - whole).max() <= 1e-3
    assert np.abs(answers[engine]["segments3"][0] - POOLED[0]).max() <= 1e-3


def test_engines_agree_on_silence_music_and_noise(answers):
    difference = np.abs(answers["torch"]["segments_batch"] - answers["essentia"]["segments_batch"])
    assert difference.max() <= 1e-3
    assert np.abs(answers["torch"]["segments_batch"]).max() < 1000  # far from the end of float16


@pytest.mark.parametrize("engine", ["torch", "essentia"])
def test_a_row_does_not_depend_on_its_batch(answers, engine):
    alone, inside = answers[engine]["segments3"][0], answers[engine]["segments_batch"][1]
    assert np.linalg.norm(alone - inside) <= 1e-5 * np.linalg.norm(alone)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(3)), keep=st.integers(1, 3))
def test_any_batch_gives_the_same_rows(net, answers, order, keep):
    rows = net.features(segments_for_batches()[order[:keep]])
    expected = answers["torch"]["segments_batch"][order[:keep]]
    assert (np.linalg.norm(rows - expected, axis=1) <= 1e-5 * np.linalg.norm(expected, axis=1)).all()


def test_channels_are_interleaved_maximum_then_mean(answers):
    features = answers["torch"]["segments_batch"]
    assert (features[:, 0::2] >= features[:, 1::2] - 1e-5).all()


def test_an_incomplete_patch_is_dropped(net, answers):
    longer = np.concatenate([WAVE, np.ones(16000, np.float32)])[None]
    assert np.abs(net.features(longer) - answers["torch"]["segments"]).max() <= 1e-4


@pytest.mark.parametrize(
    "segments",
    [
        np.zeros((1, mel.MIN_SAMPLES - 1), np.float32),
        np.zeros((1, SECONDS_3)),
        np.zeros(SECONDS_3, np.float32),
        np.zeros((1, SECONDS_3), np.int16),
    ],
)
def test_other_segments_are_refused(net, segments):
    with pytest.raises(ValueError, match="MusicNN"):
        net.features(segments)


def test_the_shortest_segment_and_none(net):
    assert net.features(np.zeros((1, mel.MIN_SAMPLES), np.float32)).shape == (1, 1506)
    assert net.features(np.zeros((0, SECONDS_3), np.float32)).shape == (0, 1506)


def test_training_mode_is_refused(net):
    for part in (net.engine.net, net.engine.net.front[3].norm):
        part.train()
        with pytest.raises(RuntimeError, match="training mode"):
            net.features(WAVE[None])
        net.engine.net.eval()


def test_front_end_matches_the_original():
    both = mel.patches(WAVE[None]), mel.Torch(torch.device("cpu")).patches(torch.from_numpy(WAVE[None])).numpy()
    for patches in both:
        assert patches.dtype == np.float32
        assert np.abs(patches - GOLDEN["patches_f32"]).max() <= 2e-5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(mel.MIN_SAMPLES, 70000), st.floats(-6, 2))
def test_front_ends_agree(seed, samples, loudness):
    wave = np.random.default_rng(seed).normal(0, 10.0**loudness, (2, samples)).astype(np.float32)
    ours, torchs = mel.log_mel(wave), mel.Torch(torch.device("cpu")).log_mel(torch.from_numpy(wave)).numpy()
    assert ours.shape == (2, samples // 256 + 1, 96)
    assert np.abs(ours - torchs).max() <= 1e-4


def test_loud_music_does_not_overflow():
    """Power grows with the square of the amplitude; the original's float16 ends at log10(65504) = 4.8."""
    quiet, loud = mel.log_mel(WAVE[None]), mel.log_mel(100 * WAVE[None])
    strong = quiet > 4
    assert strong.any() and loud.max() > 8
    assert np.abs(loud[strong] - quiet[strong] - 4).max() < 1e-3


def test_silence_gives_zeros():
    assert not mel.log_mel(np.zeros((1, SECONDS_3), np.float32)).any()


def test_preprocessing_is_json_and_not_of_the_engine():
    ours = [MusicNN.preprocessing({"engine": engine}) for engine in ("torch", "essentia")]
    assert ours[0] == ours[1] == json.loads(json.dumps(ours[0]))
    assert MusicNN.request({"engine": "torch"}) == AudioRequest(16000, "mean")


def test_a_frozen_graph_runs_in_essentia_only(weights, answers, tmp_path):
    from safetensors.numpy import load_file

    from config.paths import Paths
    from pipeline.weights import prepare

    tensors = load_file(weights)
    graph = graphdef.musicnn_graph(tensors, [affine(tensors, i) for i in range(11)], mel.PATCH, mel.BANDS)
    (tmp_path / "my.pb").write_bytes(graph)
    record = prepare(
        config_of(tmp_path / "results", "musicnn", tmp_path / "my.pb", options={"engine": "essentia"}), "musicnn"
    )
    assert "not MTG's" in record["source"]
    path = Paths(tmp_path / "results").weights("musicnn")
    outputs = through_essentia(tmp_path, path, segments3=WAVE[None, :SECONDS_3])
    assert np.array_equal(outputs["segments3"], answers["essentia"]["segments3"])
    assert not list(path.parent.glob(".*")), "temporary files are left"
    with pytest.raises(UserError, match="engine: essentia only"):
        MusicNN(path, {"engine": "torch"}, "cpu", 1)


def test_importing_it_imports_neither_torch_nor_essentia():
    script = (
        "import sys; from pipeline.backbones.registry import load_class; import pipeline.weights\n"
        "for name, options in (('musicnn', {'engine': 'torch'}), ('r2plus1d', {'fps': 10.0})):\n"
        "    load_class(name).request(options); load_class(name).preprocessing(options)\n"
        "print(sorted({'torch', 'torchvision', 'essentia', 'decord'} & set(sys.modules)))"
    )
    assert execute([sys.executable, "-c", script]).stdout.strip() == "[]"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_missing_gpu_is_named(weights):
    with pytest.raises(UserError, match="device: cuda"):
        MusicNN(weights, {"engine": "torch"}, "cuda", 1)


def test_essentia_refuses_the_gpu_and_a_process_with_decord(weights, monkeypatch):
    with pytest.raises(UserError, match="device: cuda"):
        MusicNN(weights, {"engine": "essentia"}, "cuda", 1)
    monkeypatch.setitem(sys.modules, "decord", object())
    monkeypatch.delitem(sys.modules, "essentia", raising=False)
    with pytest.raises(RuntimeError, match="decord"):
        musicnn_essentia.import_essentia(1)
