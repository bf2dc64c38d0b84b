"""Every file that a rule's command reads is an input of the rule: every rule is run, and the results watched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study import QUESTIONS
from tests.support.commands import ROOT, execute
from tests.support.paper_code import SMALL, write_clone
from tests.support.tracing import Job, Opened, jobs_of
from tests.support.workflow import snakemake

STUDY = {
    "questions": list(QUESTIONS),
    "seeds": [0, 1],
    "length": {
        "videos": 20,
        "variants": [{"seconds": 3, "count": 2}, {"seconds": 5, "count": 1}],
        "totals": [6],
        "folds": 2,
        "components": 4,
    },
    "correlation": {
        "null_seeds": 2,
        "simulated": {"videos": 60, "gallery": 20, "grid": [0, 1], "sizes": [20], "map_grid": [1], "max_epochs": 2},
        "rendered": {"grid": [0, 1], "kinds": ["mood"], "kinds_grid": [1]},
    },
    "aggregation": {"recipe": {"max_epochs": 2, "batch": 16}, "replaced": [0]},
    "fusion": {"max_epochs": 2, "batch": 16, "components": 4},
    "relations": {"permutations": 19, "null_seeds": 1},
    "ablation": {
        **{"first": "baseline", "last": "baseline", "seeds": [0, 1], "steps": 2, "checks": 1, "simulated": [0.5]},
        **{"videos": 20, "gallery": 10, "rendered": [0.5]},
    },
    "sources": {
        **{"folds": 2, "inner_folds": 2, "repeats": 1, "permutations": 19, "secondary_permutations": 19},
        # With random weights many videos look like twins.
        **{"recipe": {"max_epochs": 2, "batch": 8}, "power_runs": 2, "near_duplicate": 1.0},
    },
}

# Files that a rule need not declare by name, because a record that it declares says what is in them: another content
# of the one is another content of the other. VARIANT is a results folder of its own inside.
VARIANT = r"(study/length/[^/]+/)?"
STAND_FOR = {
    rf"{VARIANT}manifest\.parquet": r"\1manifest\.json",
    rf"{VARIANT}weights/(\w+)\.safetensors": r"\1weights/\2\.json",
    rf"{VARIANT}(plan\.json|done/.*|features\.zarr/.*)": r"\1features\.json",
    # Until there is that record: a shard's has the digest of its arrays, and a job's lists those of its shards.
    rf"{VARIANT}(done/(\w+)/.*)": r"\1done/\3/.*",
    rf"{VARIANT}(features\.zarr/.*)": r"\1done/.*",
    r"labels/(\w+)\.parquet": r"labels/\1\.json",
    r"(heads/.*)embeddings\.zarr/.*": r"\1embeddings\.json",
    r"study/(\w+)/[^/]*\.safetensors": r"study/\1/trained\.json",
}
# What a rule need not declare at all: the rule's name, files, why.
EXEMPT = [
    (r".*", r".*config\.json", "all of it that changes what a rule writes is in the rule's params"),
    (
        r".*",
        r"(work|ledger|logs|benchmarks|study/\w+/(pieces|running))/.*|study/length/\w+/(work|ledger|logs)/.*",
        "own progress",
    ),
    (r"render", r"rendered/.*", "what it has rendered already"),
    (r"write_manifest", r"manifest\.parquet", "rows are for ever: it goes on with its own"),
    (r"plan|(study_length_)?(probe|extract\w*)", r"(study/length/\w+/)?features\.zarr/.*", "grows, or filled by it"),
    (r"plan", r"plan\.json", "which backbones are computed together is for ever"),
    (r"plan", r"done/.*", "records of shards that are not as planned any more, which it deletes"),
    (r"probe|extract_\w+", r"manifest\.parquet|plan\.json|done/probe/.*", "the key and number of rows are params"),
    (
        r"study_length_(probe|extract)",
        r"study/length/\w+/manifest\.parquet",
        "its rows are for ever; the plan has how many",
    ),
    (r"study_length_variant", r"study/length/\w+/(manifest\.parquet|features\.zarr/.*)", "goes on with its own"),
    (r"study_correlation_train", r"study/correlation/[^/]+\.safetensors", "its own finished trainings"),
    (r"study_length_train", r"study/length/[^/]+\.safetensors", "its own"),
    (
        r"(study_length_)?(probe|extract\w*)",
        r"rendered/.*\.(mp4|mkv|webm)",
        "a video is read once; `pipeline.retry` reads it again",
    ),
    (r"study_length_extract", r"weights/\w+\.safetensors", "their identity is in the keys of its plan"),
    (r"write_atlas", r"report/atlas/media/.*", "its own clips"),
    (
        r"write_report",
        r"(duplicates|eval/\w+)/duplicates\.(json|csv)",
        "it shows them where they are; work/duplicates.sha256 is its input then, so that it does not ask for them",
    ),
    (
        r"write_report|write_atlas",
        r"rendered/.*\.(mp4|mkv|webm)",
        "a video's content stands behind its features; its file is not looked at again",
    ),
]


def undeclared(job: Job, read: set[Path], results: Path) -> list[str]:
    """What the job read and neither declares, nor a record of it, relative to the results."""
    declared = {str(path.relative_to(results)) for path in job.inputs if path.is_relative_to(results)}
    left = []
    for name in sorted(str(path.relative_to(results)) for path in read):
        known = name in declared or any(
            re.fullmatch(rule, job.rule) and re.fullmatch(files, name) for rule, files, _ in EXEMPT
        )
        for files, record in STAND_FOR.items():
            if found := re.fullmatch(files, name):
                # Groups that took no part are empty; dots in names stay dots.
                wanted = record
                for number, part in enumerate(found.groups(), 1):
                    wanted = wanted.replace(rf"\{number}", re.escape(part or ""))
                known |= any(re.fullmatch(wanted, one) for one in declared)
        if not known:
            left.append(name)
    return left


@pytest.fixture(scope="module")
def cache(demo, tmp_path_factory):
    """The demo's results with the descriptors besides, and the study's settings: (folder, configuration)."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(demo[0] / "results", folder / "results")
    backbones = demo[1]["backbones"] | {n: {"weights": "none"} for n in ("sound_descriptors", "picture_descriptors")}
    paper_code = SMALL | {"cache": True, "clone": str(write_clone(folder / "clone"))}
    study = STUDY | {"paper_code": paper_code}
    config = demo[1] | {"results": str(folder / "results"), "backbones": backbones, "study": study}
    (folder / "results" / "plan.json").unlink()  # as results that were moved ask for, where a backbone is new
    snakemake(folder, config, "extract")
    return folder, config


def test_what_is_opened_is_seen_whoever_opens_it(tmp_path):
    (tmp_path / "sub").mkdir()
    scripts = {
        "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'x': [1]}), 'sub/a.parquet')": set(),
        "import pyarrow.parquet as pq; pq.read_table('sub/a.parquet')": {"sub/a.parquet"},
        "import numpy as np; from safetensors.numpy import save_file; save_file({'x': np.ones(3)}, 'b')": set(),
        "from safetensors import safe_open; safe_open('b', 'numpy').get_tensor('x'); open('c', 'w').write('1')": {"b"},
        "import os, h5py; h5py.File('new.h5', 'w').close(); h5py.File('new.h5').close(); os.remove('c')": set(),
        "import h5py; h5py.File('new.h5').close(); open('b', 'ab').close()": {"new.h5"},
    }
    for script, expected in scripts.items():
        with Opened(tmp_path) as opened:
            execute([sys.executable, "-c", script], cwd=tmp_path, check=True)
        assert {str(path.relative_to(tmp_path)) for path in opened.read} == expected, script


RULES = {"main": ["all", "duplicates", "evaluate_duplicates", "atlas"], "study": ["study"]}


@pytest.mark.parametrize("part", RULES)
def test_every_file_that_a_rule_reads_is_an_input_of_it(cache, part):
    folder, config = cache
    results = Path(config["results"])
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    jobs = [job for job in jobs_of(folder, config, *RULES[part]) if ("study" in job.rule) == (part == "study")]
    wrong, seen = {}, set()
    for job in jobs:
        if job.rule in seen and all(path.exists() for path in job.outputs):
            continue
        seen.add(job.rule)
        for path in job.outputs:  # as Snakemake does
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        for log in re.findall(rf"{re.escape(str(results))}/logs/[^ ')]*", job.command):
            Path(log).parent.mkdir(parents=True, exist_ok=True)
        with Opened(results) as opened:
            done = execute(
                ["bash", "-euo", "pipefail", "-c", job.command], env=environment, cwd=folder, stderr=subprocess.STDOUT
            )
        assert done.returncode == 0, f"{job.command}\n{done.stdout}"
        assert opened.read, f"nothing was seen of {job.command}"
        assert all(path.exists() for path in job.outputs), job
        if left := undeclared(job, opened.read, results):
            wrong[job.rule] = left
    files = [file for where in ("*", "eval/*", "study/*") for file in ROOT.glob(f"{where}/rules.smk")]
    written = re.findall(r"^ *(?:rule|checkpoint) (\w+):", "\n".join(file.read_text() for file in files), re.M)
    # The rule of a pass of several backbones is written without a name.
    written += ["extract_r2plus1d_with_picture_descriptors"]
    assert seen == {rule for rule in written if ("study" in rule) == (part == "study")}, "a rule was not watched"
    assert not wrong, "\n".join(f"{rule} reads {', '.join(names[:8])}" for rule, names in wrong.items())


def test_what_stands_for_what():
    here = Path("/r")

    def left(rule: str, read: list[str], declared: list[str]) -> list[str]:
        job = Job(rule, "", frozenset(here / name for name in declared), frozenset())
        return undeclared(job, {here / name for name in read}, here)

    read = ["config.json", "features.zarr/musicnn/c/0", "heads/e/seeds/1/embeddings.zarr/audio/c/0", "manifest.parquet"]
    declared = ["features.json", "manifest.json", "heads/e/seeds/1/embeddings.json"]
    assert left("retrieval", read, declared) == []
    assert left("retrieval", read, declared[1:]) == ["features.zarr/musicnn/c/0"]
    assert left("retrieval", read, [declared[0], declared[2]]) == ["manifest.parquet"]
    assert left("retrieval", read, [*declared[:2], "heads/e/embeddings.json"]) == read[2:3]
    assert left("study_length", ["study/length/3s_2/plan.json"], ["features.json"]) == ["study/length/3s_2/plan.json"]
    assert left("study_length", ["study/length/3s_2/plan.json"], ["study/length/3s_2/features.json"]) == []
    assert left("index", ["features.zarr/x", "done/musicnn/00000.json"], ["done/musicnn/8_shards/00000.json"]) == []
