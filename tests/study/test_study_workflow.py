"""The workflow of the study on the small demo: variants are extracted, a deleted answer is made again."""

import shutil
from pathlib import Path

import pytest

from config.files import read_json, write_json
from config.paths import Paths
from pipeline.records import read_plan
from study import QUESTIONS
from tests.support.answers import answer
from tests.support.workflow import planned_rules, snakemake

LENGTH = {
    "videos": 20,
    "variants": [{"seconds": 3, "count": 2}, {"seconds": 5, "count": 1}],
    "totals": [6],
    "folds": 2,
    "components": 4,
}


@pytest.fixture(scope="module")
def studied(demo, tmp_path_factory):
    """The demo's results with the study: (folder, configuration, output of Snakemake).

    Only the question `length` is run; for the others there are made-up answers, as if they had been run before.
    """
    folder = tmp_path_factory.mktemp("studied")
    shutil.copytree(demo[0] / "results", folder / "results")
    config = demo[1] | {"results": str(folder / "results"), "study": {"seeds": [0, 1], "length": LENGTH}}
    paths = Paths(folder / "results")
    for part in set(QUESTIONS) - {"length"}:
        write_json(paths.study(part), vars(answer(part)) | {"findings": [], "tables": {}})
    shutil.rmtree(paths.report)
    return folder, config, snakemake(folder, config, *targets(paths))


def targets(paths: Paths) -> list[str]:
    return [str(paths.study("length"))]


def test_variants_are_extracted_by_the_real_backbones(studied):
    folder, _, printed = studied
    paths = Paths(folder / "results")
    length = read_json(paths.study("length"))
    assert length["random_weights"] == ["r2plus1d"]
    measured = {(r["seconds"], r["count"]) for r in length["tables"]["retrieval"]}
    assert measured == {(3, 1), (3, 2), (5, 1)}
    plan = read_plan(Paths(paths.study_variant("5s_1")))
    assert plan.videos == 20 and plan.segments.seconds == 5
    main = read_plan(paths)
    assert plan.backbones["musicnn"].weights == main.backbones["musicnn"].weights
    assert "Traceback" not in printed


def test_a_deleted_answer_is_made_again_alone(studied):
    folder, config, _ = studied
    path = Paths(Path(config["results"])).study("length")
    before = path.read_text()
    assert "Nothing to be done" in snakemake(folder, config, "-n", str(path))
    path.unlink()
    assert planned_rules(snakemake(folder, config, "-n", str(path))) == {"study_length"}
    snakemake(folder, config, str(path))
    assert path.read_text() == before


def test_other_seeds_fit_again_but_extract_nothing(studied):
    folder, config, _ = studied
    other = config | {"study": {"seeds": [0, 2], "length": LENGTH}}
    path = Paths(Path(config["results"])).study("length")
    assert planned_rules(snakemake(folder, other, "-n", str(path))) == {"study_length_train", "study_length"}


def test_the_main_workflow_knows_nothing_of_the_study(studied):
    folder, config, _ = studied
    assert not [rule for rule in planned_rules(snakemake(folder, config, "-n", "all")) if "study" in rule]
