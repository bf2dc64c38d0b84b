"""Graphs through essentia's own algorithms, on graphs of our own. essentia runs in one process, as in the pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.cli import UserError
from config.paths import Paths
from pipeline.backbones.check import check
from pipeline.backbones.essentia_graph import ALGORITHMS, EssentiaGraph
from pipeline.backbones.graphdef import check_operations
from pipeline.backbones.registry import POOLS, resolve_options
from pipeline.plan import make_plan
from pipeline.readers import AudioRequest
from pipeline.weights import prepare
from tests.support.commands import execute
from tests.support.graphs import SHAPES, write_graph
from tests.support.weights_fixture import config_of, get, refused

KIND, DIM = "essentia", 6
SECONDS = {"MAEST": 31.0, "TempoCNN": 13.0}
"""Length of a segment where three seconds are too few."""

# Runs in a fresh interpreter: for every question what our backbone and what essentia's own call answer.
RUN = """
import json, sys
from pathlib import Path
import numpy as np
from config.cli import UserError
from pipeline.backbones.essentia_graph import EssentiaGraph, _parameters
questions, answers = json.load(open(sys.argv[1])), {}
for name, (weights, graph, options, signals) in questions.items():
    segments = np.load(signals)
    try:
        net = EssentiaGraph(Path(weights), options, "cpu", 1)
        answers[name] = net.features(segments)
        answers[name + " alone"] = np.concatenate([net.features(segment[None]) for segment in segments[::-1]])[::-1]
    except UserError as error:
        answers[name] = np.array(str(error))
        continue
    import essentia.standard as es
    algorithm = getattr(es, "TensorflowPredict" + options["algorithm"])
    own = algorithm(graphFilename=graph, **_parameters(options))
    outputs = [np.asarray(own(segment)) for segment in segments]
    answers[name + " essentia"] = np.stack([output.reshape(-1, output.shape[-1]) for output in outputs])
assert "torch" not in sys.modules and "decord" not in sys.modules
np.savez(sys.argv[2], **answers)
"""


def options(algorithm: str, **more: Any) -> dict[str, Any]:
    return resolve_options(KIND, {"algorithm": algorithm, "output": "embeddings", "dim": DIM} | more)


def noise(algorithm: str, seconds: float | None = None) -> np.ndarray:
    """Return three segments [3, samples] that differ as much as they can: noise, a tone, silence."""
    rate = ALGORITHMS[algorithm].rate
    samples = round((seconds or SECONDS.get(algorithm, 3.0)) * rate)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)
    rng = np.random.default_rng(0)
    return np.stack([0.3 * rng.standard_normal(samples), tone, np.zeros(samples)]).astype(np.float32)


QUESTIONS: dict[str, tuple[dict[str, Any], float | None]] = {
    **{algorithm: (options(algorithm), None) for algorithm in ALGORITHMS},
    "max": (options("VGGish", pool="max"), None),
    "mean_max": (options("VGGish", pool="mean_max"), None),
    "hop": (options("VGGish", patch_hop=48), None),
    "second output": (options("EffnetDiscogs", output="PartitionedCall:1", dim=DIM // 2), None),
    "short repeated": (options("EffnetDiscogs", last_patch="repeat"), 1.0),
    "short": (options("EffnetDiscogs"), 1.0),
    "short MAEST": (options("MAEST"), 3.0),
    "dim": (options("VGGish", dim=5), None),
    "input": (options("VGGish", input="nowhere"), None),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("essentia")
    questions = {}
    for name, (chosen, seconds) in QUESTIONS.items():
        algorithm = chosen["algorithm"]
        graph = write_graph(folder / f"{algorithm}.pb", algorithm, DIM)
        record = prepare(config_of(folder / "results", "net", graph, kind=KIND, options=chosen), "net")
        assert record["source"] == f"local frozen graph {algorithm}.pb"
        weights = Paths(folder / "results").weights("net").rename(folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", noise(algorithm, seconds))
        questions[name] = (str(weights), str(graph), chosen, str(folder / f"{name}.npy"))
    (folder / "in.json").write_text(json.dumps(questions))
    done = execute([sys.executable, "-c", RUN, str(folder / "in.json"), str(folder / "out.npz")])
    assert done.returncode == 0, done.stderr
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "temporary files are left"
    return dict(np.load(folder / "out.npz"))


@pytest.mark.parametrize("name", [*ALGORITHMS, "hop", "second output", "short repeated"])
def test_features_are_the_mean_of_what_essentia_gives(answers: dict[str, np.ndarray], name: str) -> None:
    features, own = answers[name], answers[f"{name} essentia"]
    assert features.dtype == np.float32 and features.shape == (3, QUESTIONS[name][0]["dim"])
    # Of silence, the third segment, two calls of essentia's own do not agree.
    rows = slice(2 if ALGORITHMS[QUESTIONS[name][0]["algorithm"]].noisy else 3)
    np.testing.assert_allclose(features[rows], own.mean(axis=1)[rows], rtol=1e-5, atol=1e-6)
    assert np.linalg.norm(features[0] - features[1]) > 1e-3, "the features do not depend on the audio"


def test_other_poolings(answers: dict[str, np.ndarray]) -> None:
    own = answers["VGGish essentia"]
    assert own.shape[1] == 3, "three patches in three seconds"
    np.testing.assert_array_equal(answers["max"], own.max(axis=1))
    np.testing.assert_allclose(answers["mean_max"], np.concatenate([own.mean(1), own.max(1)], 1), rtol=1e-5, atol=1e-6)
    assert EssentiaGraph.width(QUESTIONS["mean_max"][0]) == 2 * DIM


def test_an_output_of_several_is_the_one_that_was_asked_for(answers: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(answers["second output"], answers["EffnetDiscogs"][:, DIM // 2 :], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*ALGORITHMS, "short repeated"])
def test_a_row_does_not_depend_on_its_batch(answers: dict[str, np.ndarray], name: str) -> None:
    np.testing.assert_array_equal(answers[name], answers[f"{name} alone"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "EffnetDiscogs makes no patch of a segment of 1 s; set longer segments"),
        ("short MAEST", "MAEST makes no patch of a segment of 3 s: .*too short"),
        ("dim", r"^options\.dim: 'embeddings' gives vectors of 6 numbers, not 5; set `dim: 6`"),
        ("input", "^weights: essentia's VGGish cannot run the graph: .*nowhere"),
    ],
)
def test_what_the_graph_does_not_give_is_named(answers: dict[str, np.ndarray], name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        raise UserError(str(answers[name]))


@pytest.mark.parametrize(
    ("chosen", "seconds", "message"),
    [
        ({"algorithm": "MAEST"}, 3.0, r"options\.algorithm: MAEST needs 29\.98 s \(1876 frames\)"),
        ({"algorithm": "MAEST", "patch_size": 316}, 5.0, r"options\.algorithm: MAEST needs 5\.02 s \(316 frames\)"),
        ({"algorithm": "TempoCNN"}, 11.0, r"options\.algorithm: TempoCNN needs 11\.80 s"),
        ({"algorithm": "CREPE", "patch_hop": 5}, 3.0, r"options\.patch_hop: 5, but essentia's CREPE has no such"),
        ({"algorithm": "FSDSINet", "patch_size": 5}, 3.0, r"options\.patch_size: 5, but essentia's FSDSINet has no"),
    ],
)
def test_the_plan_refuses_what_cannot_work(
    chosen: dict[str, Any], seconds: float, message: str, tmp_path: Path
) -> None:
    given = {"output": "embeddings", "dim": DIM} | chosen
    config = config_of(tmp_path, "net", "./graph.pb", kind=KIND, options=given)
    segments = config.segments.model_copy(update={"seconds": seconds, "window": seconds})
    with pytest.raises(UserError, match=rf"^backbones\.net\.{message}"):
        make_plan(config.model_copy(update={"segments": segments}), 1, {"net": {"sha256": "0" * 64, "random": False}})


def test_shorter_patches_make_shorter_segments_possible() -> None:
    assert EssentiaGraph.refusal(options("MAEST", patch_size=316), 5.1) is None
    assert all(EssentiaGraph.refusal(options(name), SECONDS.get(name, 3.0)) is None for name in ALGORITHMS)


def test_a_graph_that_could_do_more_than_compute_is_refused(tmp_path: Path) -> None:
    keys = {"kind": KIND, "options": {"output": "embeddings", "dim": DIM}}
    harmless = write_graph(tmp_path / "called.pb", "VGGish", DIM, calls="StatefulPartitionedCall")
    assert get(tmp_path / "ok", "net", harmless, **keys)["random"] is False
    with pytest.raises(ValueError, match="does not need: functions"):
        check_operations(harmless.read_bytes())
    for operation in ("WriteFile", "PyFunc", "XlaCallModule"):
        source = write_graph(tmp_path / "writes.pb", "VGGish", DIM, calls=operation)
        assert operation in refused(tmp_path / "r", "net", source, **keys)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    keys = {"kind": KIND, "options": {"output": "embeddings", "dim": DIM}}
    (tmp_path / "text.pb").write_text("no graph")
    assert "is no frozen TensorFlow graph" in refused(tmp_path / "r", "net", tmp_path / "text.pb", **keys)
    assert "there is no file" in refused(tmp_path / "r", "net", "./none.pb", **keys)
    graph = write_graph(tmp_path / "VGGish.pb", "VGGish", DIM)
    first = get(tmp_path / "r", "net", graph, **keys)
    copied = Paths(tmp_path / "r").weights("net").rename(tmp_path / "copied.safetensors")
    assert get(tmp_path / "s", "net", copied, **keys)["sha256"] == first["sha256"]
    config = config_of(tmp_path / "t", "net", graph, kind=KIND, options={"output": "model/embedding", "dim": DIM})
    with pytest.raises(
        UserError, match=r"^backbones\.net\.options\.output: VGGish\.pb has no node 'model/embedding'.*"
    ):
        prepare(config, "net")


def test_mistakes_in_the_configuration_are_named(tmp_path: Path) -> None:
    def mistake(weights: str = "./g.pb", device: str = "cpu", **given: Any) -> str:
        with pytest.raises(UserError) as error:
            check(config_of(tmp_path, "net", weights, kind=KIND, options=given, device=device))
        return str(error.value)

    assert "options.output: missing" in mistake(dim=1) and "options.dim: missing" in mistake(output="x")
    assert "'2D' is not one of EffnetDiscogs" in mistake(output="x", dim=1, algorithm="2D")
    assert "weights: 'hub' is not the path" in mistake("hub", output="x", dim=1)
    assert "device: cuda, but essentia runs on processors" in mistake(device="cuda", output="x", dim=1)


def test_the_key_says_what_changes_the_features() -> None:
    assert EssentiaGraph.request(options("FSDSINet", downmix="layout")) == AudioRequest(22_050, "layout")
    others = [options(name) for name in ALGORITHMS] + [options("VGGish", pool=pool) for pool in POOLS[1:]]
    others += [options("VGGish", patch_hop=9), options("VGGish", last_patch="repeat"), options("VGGish", output="x")]
    others += [options("VGGish", downmix="layout")]
    keys = {json.dumps(EssentiaGraph.preprocessing(chosen)) for chosen in others}
    assert len(keys) == len(others) and set(SHAPES) == set(ALGORITHMS)
