"""The models of verdicts.py: small CLIPs trained on the demonstration's scenes, each with something known about it.

Four runs of the same recipe: the baseline's, of which an earlier and a later epoch are kept as well; one with another
seed; one that saw no picture of one colour; one that saw its pictures in grey. Checkpoints are kept below the work
folder and used again while their settings are the same.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from koda.demo.scenes import N_TEMPLATES, Scene
from koda.demo.train import LUMA, Corpus, Vocabulary, make_corpus, new_model, normalise, save

LEFT_OUT = "green"
KEPT_OF_IT = 0.5  # of the scenes of this colour, in training and pool alike: 1 in 15 is left of 1 in 8
N_SCENES, SCENE_SEED = 24_000, 11
EPOCHS = 8  # that the learning rate falls over
BATCH, LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 192, 2e-3, 50, 0.05
WEIGHTS, NOTES = "open_clip_model.safetensors", "trained.json"


@dataclass(frozen=True)
class Run:
    """One training: what is unlike the baseline's, and at the end of which epochs a model is kept."""

    keep: dict[int, str]
    seed: int = 0
    grey: bool = False
    without: str | None = field(default=None)


RUNS = {
    "baseline": Run({4: "earlier", 7: "baseline", 8: "later"}),
    "second seed": Run({7: "seed"}, seed=1),
    "one colour left out": Run({7: "left-out"}, without=LEFT_OUT),
    "grey": Run({7: "grey"}, grey=True),
}
ROTATED = "rotated"
TRAINED = (*(name for run in RUNS.values() for name in run.keep.values()), ROTATED)


def thinned(scenes: list[Scene], seed: int) -> list[int]:
    """Return the rows that stay: all, but of the colour that one model never sees only a part."""
    draws = np.random.default_rng(seed).random(len(scenes))
    return [i for i, scene in enumerate(scenes) if scene.colour != LEFT_OUT or draws[i] < KEPT_OF_IT]


def train_all(folder: Path, runs: list[str]) -> None:
    """Train what is missing of these runs below `folder`, and turn the baseline's text tower."""
    missing = [
        name for name in runs if not all(_is_made(folder / kept, _notes(name)) for kept in RUNS[name].keep.values())
    ]
    if missing:
        print("drawing scenes", file=sys.stderr, flush=True)
        vocabulary = Vocabulary()
        whole = make_corpus(N_SCENES, SCENE_SEED, vocabulary)
        data = _part(whole, thinned(whole.scenes, SCENE_SEED))
    for name in missing:
        begun = time.perf_counter()
        for epoch, model in _train(data, RUNS[name], vocabulary):
            seconds = round(time.perf_counter() - begun, 1)
            print(f"{name}: epoch {epoch}, {seconds} s", file=sys.stderr, flush=True)
            if (kept := RUNS[name].keep.get(epoch)) is not None:
                save(model, folder / kept, vocabulary)
                notes = {**_notes(name), "epoch": epoch, "seconds": seconds, "threads": torch.get_num_threads()}
                (folder / kept / NOTES).write_text(json.dumps(notes, indent=1) + "\n")
    _turn(folder / "baseline", folder / ROTATED)


def training_seconds(folder: Path) -> dict[str, float]:
    """Return how long each model took from the first step of its run."""
    names = [name for name in TRAINED if name != ROTATED and (folder / name / NOTES).is_file()]
    return {name: json.loads((folder / name / NOTES).read_text())["seconds"] for name in names}


def _notes(name: str) -> dict[str, Any]:
    recipe = [N_SCENES, SCENE_SEED, EPOCHS, BATCH, LEARNING_RATE, WARM_UP, WEIGHT_DECAY, LEFT_OUT, KEPT_OF_IT]
    return {"run": json.loads(json.dumps(asdict(RUNS[name]))), "recipe": recipe}


def _is_made(folder: Path, notes: dict[str, Any]) -> bool:
    """Whether a checkpoint of these settings is there; its notes are written last."""
    try:
        found = json.loads((folder / NOTES).read_text())
    except (OSError, ValueError):
        return False
    return all(found.get(name) == value for name, value in notes.items())


def _part(data: Corpus, rows: list[int]) -> Corpus:
    return Corpus([data.scenes[i] for i in rows], data.images[rows], data.tokens[rows])


def _grey(images: Tensor) -> Tensor:
    """Return pictures (n, 3, h, w) uint8 with all channels at their luma."""
    luma = sum(weight * images[:, channel].float() for channel, weight in enumerate(LUMA))
    return torch.as_tensor(luma).round().to(torch.uint8)[:, None].expand_as(images).contiguous()


def _train(data: Corpus, run: Run, vocabulary: Vocabulary) -> Iterator[tuple[int, CLIP]]:
    """Train with the contrastive loss, AdamW, linear warm-up and a cosine schedule; yield (epoch, model) after each."""
    if run.without is not None:
        data = _part(data, [i for i, scene in enumerate(data.scenes) if scene.colour != run.without])
    images = _grey(data.images) if run.grey else data.images
    torch.manual_seed(run.seed)
    model = new_model(vocabulary)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6)
    loss_fn = ClipLoss()
    generator = torch.Generator().manual_seed(run.seed)
    each = len(images) // BATCH  # steps of an epoch
    for epoch in range(1, max(run.keep) + 1):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        for step in range(each):
            rows = order[step * BATCH : (step + 1) * BATCH]
            template = torch.randint(N_TEMPLATES, (BATCH,), generator=generator)
            done = (epoch - 1) * each + step
            rate = min(1.0, (done + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done / (EPOCHS * each)))
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * rate
            image, text, scale = model(normalise(images[rows]), data.tokens[rows, template])
            loss = loss_fn(image, text, scale)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0.0, math.log(100))
        model.eval()
        yield epoch, model


def _turn(source: Path, folder: Path) -> None:
    """Write the model of `source` with its text embeddings turned by a random orthogonal matrix, all else equal."""
    state = load_file(source / WEIGHTS)
    projection = state["text_projection"].double()  # (width, d); text = x @ projection
    d = projection.shape[1]
    q, r = np.linalg.qr(np.random.default_rng(5).normal(size=(d, d)))
    turn = torch.from_numpy(q * np.sign(np.diag(r)))  # (d, d), of the Haar measure
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**state, "text_projection": (projection @ turn).float().contiguous()}, folder / WEIGHTS)
    config = "open_clip_config.json"
    (folder / config).write_bytes((source / config).read_bytes())
