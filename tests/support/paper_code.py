"""A stand-in for a clone of the paper authors' repository: the same interface, and our own minimal code.

It needs what the authors' modules need: packages that are not installed, the package name `thesis_project.mmnet`,
`Tensor.cuda`, and `Variable(volatile=)`. Its `train()` names the classes of the single head. What it logs as the median
rank has no meaning; its losses are right.
"""

from __future__ import annotations

from pathlib import Path

from config.study.paper_code import PAPER_MODULES

FILES = {
    "data.py": """
import random
import torch
import torchaudio_augmentations.augmentations as augmentations
from pytorchvideo.transforms import RandomResizedCrop
from sqlitedict import SqliteDict

def create_dataloader(size, audio, video, n, opt):
    assert opt["use_embeddings"] and n == len(audio) == len(video)
    ids = sorted(audio)
    order = list(range(n))
    random.shuffle(order)
    batches = [order[i : i + size] for i in range(0, n - size + 1, size)]
    return [
        (torch.stack([audio[ids[i]]() for i in b]), torch.stack([video[ids[i]]() for i in b]), torch.tensor(b))
        for b in batches
    ]
""",
    "model.py": """
import torch
import torchaudio
from torch.autograd import Variable

class VideoEncoderEmb(torch.nn.Module):
    def __init__(self, sizes, normalise, width=512):
        super().__init__()
        self.dense1 = torch.nn.Linear(width, sizes[0])
        self.bn1 = torch.nn.BatchNorm1d(sizes[0])
        self.dense2 = torch.nn.Linear(sizes[0], sizes[1])

    def forward(self, x):
        return torch.nn.functional.normalize(torch.sigmoid(self.dense2(torch.relu(self.bn1(self.dense1(x))))))

class AudioEncoderEmb(VideoEncoderEmb):
    def __init__(self):
        super().__init__([512, 256], True, 1506)

class VideoEncoderEmb2(VideoEncoderEmb):
    def __init__(self, sizes, normalise):
        super().__init__(sizes, normalise)
        self.dense3 = torch.nn.Linear(sizes[1], sizes[2])

class AudioEncoderEmb2(torch.nn.Identity):
    pass

def loss(video, audio):
    logits, own = audio @ video.T, torch.arange(len(video)).cuda()
    return torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)

class Model:
    def __init__(self, video, audio, rate):
        self.heads = (video, audio)
        self.optimizer = torch.optim.Adam([p for h in self.heads for p in h.parameters()], rate)
        self.Eiters = 0

    def embed(self, video, audio, training):
        for head in self.heads:
            head.train(training)
        return tuple(h(Variable(x, volatile=not training)) for h, x in zip(self.heads, (video, audio)))

    def state_dict(self):
        return [head.state_dict() for head in self.heads]

    def load_state_dict(self, states):
        for head, state in zip(self.heads, states):
            head.load_state_dict(state)
""",
    "evaluation.py": """
import torch
from thesis_project.mmnet.model import Model

def encode_data(model, loader):
    parts, rows = [], torch.cat([batch[2] for batch in loader])
    with torch.no_grad():
        for audio, video, _ in loader:
            parts.append(model.embed(video, audio, False))
    place = torch.argsort(rows)
    return tuple(torch.cat([p[side] for p in parts])[place].numpy() for side in (0, 1))
""",
    "train.py": """
import shutil
import torch
import wandb
from thesis_project.mmnet.data import *
from thesis_project.mmnet.model import *
from thesis_project.mmnet.evaluation import *

def train(opt, batches, validation, gallery):
    wandb.init(project="none")
    video = VideoEncoderEmb2(opt["video_layer_sizes"], opt["normalise"])
    model = Model(video, AudioEncoderEmb2(), opt["learning_rate"])
    best = 1e9
    for epoch in range(opt["num_epochs"]):
        for audio, video, _ in batches:
            value = loss(*model.embed(video, audio, True))
            model.optimizer.zero_grad()
            value.backward()
            model.optimizer.step()
            model.Eiters += 1
        wandb.log({"Train loss": value})
        video, audio = (torch.from_numpy(x) for x in encode_data(model, validation))
        firsts = range(0, len(video), gallery)
        total = sum(loss(video[i : i + gallery], audio[i : i + gallery]) for i in firsts) / (len(firsts) + 0.0001)
        wandb.log({"Validation loss": total, "v2a Validation median rank": 7.0, "a2v Validation median rank": 7.0})
        state = {"epoch": epoch + 1, "model": model.state_dict(), "best_rsum": min(best, total), "opt": opt}
        path = opt["logger_name"] + "/" + opt["filename"]
        torch.save(state | {"Eiters": model.Eiters}, path)
        if total < best:
            best = total
            shutil.copyfile(path, opt["logger_name"] + "/model_best.pth.tar")
    return model
""",
}


def write_clone(folder: Path, **changed: str) -> Path:
    """Write the stand-in into `folder` and return it. `changed` replaces files, by name without suffix."""
    modules = folder / PAPER_MODULES
    modules.mkdir(parents=True)
    for name, text in FILES.items():
        (modules / name).write_text(changed.get(name.removesuffix(".py"), text))
    return folder


SMALL = {"grid": [0, 1], "videos": 96, "gallery": 24, "galleries": 2, "batch": 32, "max_epochs": 3, "cache": False}
"""Settings of `study.paper_code` for a run of seconds."""
