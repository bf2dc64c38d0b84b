"""Where things lie: copied results folders, and working directories that have modules of the same names as ours."""

import json
import os
import shutil
import sys
import typing
from pathlib import Path

import pytest

from config.cli import UserError
from config.files import write_json
from config.model import Config, load, read
from config.paths import Paths
from config.place import PATH_KEYS, absolute, check_not_a_copy, unnoticed
from config.section import Section, _expanded
from tests.support.commands import ROOT, execute
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow


@pytest.fixture
def original(tmp_path) -> Path:
    """A results folder with a manifest of two videos."""
    (tmp_path / "videos.csv").write_text("video_id,path\na,1.mp4\nb,2.mp4\n")
    raw = {"results": str(tmp_path / "results"), "videos": str(tmp_path / "videos.csv")}
    write_json(tmp_path / "results" / "config.json", load(raw).model_dump(mode="json"))
    by_hand(tmp_path, "data.manifest", tmp_path / "results")
    return tmp_path / "results"


def by_hand(folder: Path, module: str, results: Path, *arguments: str, check: bool = True):
    command = [sys.executable, "-m", module, "--config", results / "config.json", *arguments]
    return execute(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=check)


def test_a_copied_results_folder_works_on_itself(original, tmp_path):
    before = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    shutil.copytree(original, tmp_path / "copy")
    with open(tmp_path / "videos.csv", "a") as file:
        file.write("c,3.mp4\n")
    by_hand(tmp_path, "data.manifest", tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["rows"] == 3
    assert {path: path.read_bytes() for path in original.rglob("*") if path.is_file()} == before
    # Moved, and started elsewhere with a relative path.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy").rename(tmp_path / "elsewhere" / "moved")
    by_hand(tmp_path / "elsewhere", "data.manifest", Path("moved"))
    assert not (tmp_path / "copy").exists()


def test_every_module_takes_the_folder_of_its_configuration(tmp_path):
    config = simulate(tmp_path / "first", videos=30)
    (tmp_path / "first").rename(tmp_path / "second")
    moved = Paths(tmp_path / "second")
    by_hand(tmp_path, "pipeline.index", moved.results)
    assert moved.features_record.exists() and not Path(config.results).exists()


def test_a_configuration_that_lies_nowhere_is_refused(original, tmp_path):
    (tmp_path / "aside").mkdir()
    shutil.copy(original / "config.json", tmp_path / "aside" / "config.json")
    with pytest.raises(UserError, match="does not lie in that folder") as caught:
        read(tmp_path / "aside" / "config.json")
    assert str(original / "config.json") in str(caught.value)
    (tmp_path / "link").symlink_to(original)
    assert read(tmp_path / "link" / "config.json").results == str(original)


def test_a_copied_configuration_given_to_snakemake_is_refused(original, tmp_path):
    shutil.copytree(original, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    raw = json.loads(path.read_text())
    with pytest.raises(UserError, match=f"--config results={tmp_path / 'copy'}"):
        check_not_a_copy(path, raw, str(original))
    check_not_a_copy(path, raw, str(tmp_path / "copy"))
    check_not_a_copy(path, raw, str(tmp_path / "new"))  # another run with the same settings
    check_not_a_copy(original / "config.json", raw, str(original))


def test_tables_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    raw = load({"results": "r", "videos": "../videos.csv"}).model_dump(mode="json")
    assert absolute(raw)["videos"] == str(tmp_path.parent / "videos.csv")
    assert absolute(raw) | {"videos": raw["videos"]} == raw
    rendered = load({"results": "r", "render": {}}).model_dump(mode="json")
    assert absolute(rendered) == rendered


def path_keys(model, before=()):
    """The keys of all paths of a section, by their types; `*` for the names of a mapping."""
    for name, field in model.model_fields.items():
        types = [inner for inner in inner_types(field.annotation) if isinstance(inner, type)]
        section = next((inner for inner in types if issubclass(inner, Section)), None)
        named = "*" if typing.get_origin(field.annotation) is dict else None
        key = (*before, name, named) if named else (*before, name)
        if section is not None:
            yield from path_keys(section, key)
        elif any(getattr(mark, "func", None) is _expanded for mark in [*field.metadata, *marks(field.annotation)]):
            yield ".".join(key)


def inner_types(annotation):
    return [annotation, *(t for argument in typing.get_args(annotation) for t in inner_types(argument))]


def marks(annotation):
    return [mark for inner in inner_types(annotation) for mark in getattr(inner, "__metadata__", ())]


def test_every_path_is_found_from_any_folder(monkeypatch, tmp_path):
    assert {*path_keys(Config)} - {"results"} == {*PATH_KEYS}
    folder = tmp_path / "a$b"
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    folder.mkdir()
    (folder / "link").symlink_to("../elsewhere/deep")
    monkeypatch.chdir(folder)
    raw = {
        "results": "r",
        "videos": "link/../v.csv",
        "backbones": {"musicnn": {"weights": "w.pb"}, "r2plus1d": {"weights": "random"}},
        "decoding": {"remote": {"ca_file": "certs/own.pem"}},
        "labels": {"genre": {"source": "g.cls", "tracks": "t.txt"}, "tagging": None, "msd_summary": "m.h5"},
        "study": {"paper_code": {"clone": "c", "checkpoints": ["1.pt", "/2.pt"]}},
    }
    config = load(absolute(load(raw).model_dump(mode="json")))
    assert config.videos == f"{folder}/link/../v.csv"
    assert {name: one.weights for name, one in config.backbones.items()} == {
        "musicnn": f"{folder}/w.pb",
        "r2plus1d": "random",
    }
    assert config.decoding.remote.ca_file == f"{folder}/certs/own.pem"
    assert config.labels.files("genre") == {
        "labels.genre.source": f"{folder}/g.cls",
        "labels.genre.tracks": f"{folder}/t.txt",
        "labels.msd_summary": f"{folder}/m.h5",
    }
    code = config.study.paper_code
    assert (code.clone, code.checkpoints) == (f"{folder}/c", [f"{folder}/1.pt", "/2.pt"])


@pytest.mark.parametrize("program", [["-m", "snakemake"], [str(Path(sys.executable).with_name("snakemake"))]])
def test_modules_in_the_working_directory_are_not_imported(tmp_path, program):
    media, hostile = tmp_path / "media", tmp_path / "hostile"
    (media / "sub").mkdir(parents=True)
    (media / "sub" / "a.mp4").touch()
    hostile.mkdir()
    # `python -m snakemake` imports from the working directory itself, before it has read a Snakefile.
    theirs = ("numpy", "pyarrow", "pydantic") if len(program) == 1 else ()
    for name in ("config", "pipeline", "heads", "eval", *theirs):
        (hostile / f"{name}.py").write_text("raise SystemExit('theirs was imported')\n")
    (hostile / "data").mkdir()
    (hostile / "data" / "__init__.py").write_text("raise SystemExit('theirs was imported')\n")
    config = {
        "results": "results",
        "videos": str(media),
        "backbones": {n: {"weights": "none"} for n in ("sound_descriptors", "picture_descriptors")},
        "heads": {"audio": "sound_descriptors", "video": "picture_descriptors"},
    }
    (hostile / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, *program, "manifest", "--snakefile", ROOT / "Snakefile", "--cores", "1"]
    # Without safe paths of the user's own, as in a shell that knows nothing of them.
    free = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = execute([*command, "--configfile", "config.yaml"], cwd=hostile, env=free)
    assert done.returncode == 0 and "theirs" not in done.stdout + done.stderr, done.stderr[-3000:]
    assert json.loads((hostile / "results" / "manifest.json").read_text())["rows"] == 1


def test_settings_that_snakemake_does_not_notice_elsewhere_are_warned_of(tmp_path, monkeypatch):
    """Snakemake has its memory in the folder of its start, by the paths of the outputs."""
    note, now = tmp_path / "work" / "started_in.json", {"results": "r", "segments": {"count": 3}}
    other, here, there = now | {"segments": {"count": 2}}, tmp_path / "here", tmp_path / "there"
    for folder in (note.parent, here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    assert unnoticed(note, None, now) is None and unnoticed(note, now, other) is None
    monkeypatch.chdir(there)
    assert unnoticed(note, now, now) is None
    monkeypatch.chdir(here)
    warning = unnoticed(note, now, other)
    assert warning and str(there) in warning and "then segments changed" in warning
    assert unnoticed(note, now, other | {"results": str(here / "r")}), "another name of the results"
