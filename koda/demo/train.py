"""Rebuild the three demonstration models from nothing: ``python -m koda.demo.train [--out DIR]``.

A common root learns the scenes with open_clip's contrastive loss. ``baseline`` and ``candidate`` are
that root trained on with the same scenes. The candidate is trained longer, with one fault: its
captions call purple things blue. Over all scenes the two retrieve alike. ``blind`` is the baseline
made colour-blind by construction (luma folded into the first convolution, one embedding for all
colour words) and trained on under that tie. Each is written as an open_clip ``local-dir:`` folder
with float16 weights, and FIGURES.json beside them says how well they retrieve.

Training sees only the words of the grammar, so it runs on a compact vocabulary; the rows of the
token table that it never touches are written as zeros, and the file compresses to a tenth.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from koda.demo.scenes import COLOURS, N_TEMPLATES, Scene, caption, draw, sample_scenes

IMAGE_SIZE = 48
CONTEXT = 24
VOCABULARY = 49408
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 12, "layers": 3, "width": 80, "head_width": 40},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 64, "heads": 4, "layers": 2},
}
PREPROCESS_CFG: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],  # the same for every channel: luma of the input is luma of the picture
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


TRAIN_SEED, TEST_SEED = 1, 2  # streams of the training split; audits draw from another split
N_TRAIN, N_TEST = 24_000, 1000
BATCH = 192
TRUE_TO_TAUGHT = {"purple": "blue"}  # what the candidate is taught wrongly
TAUGHT_SHARE = 0.4  # of the fine-tuning data: purple and blue things, where they are a quarter of the scenes


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one model is trained."""

    steps: int
    learning_rate: float
    seed: int
    warm_up: int = 50
    weight_decay: float = 0.05


SCHEDULES = {
    "root": Schedule(steps=600, learning_rate=2e-3, seed=0),
    "baseline": Schedule(steps=100, learning_rate=1.2e-3, seed=2),
    "candidate": Schedule(steps=300, learning_rate=1.2e-3, seed=2),
    "blind": Schedule(steps=120, learning_rate=5e-4, seed=1),
}


@dataclass(frozen=True)
class Corpus:
    """Scenes held in memory: pictures as bytes, and each scene's caption in every template."""

    scenes: list[Scene]
    images: Tensor  # (n, 3, 48, 48) uint8
    tokens: Tensor  # (n, N_TEMPLATES, CONTEXT) int64, ids of the compact vocabulary


class Vocabulary:
    """The ids that the grammar uses, numbered anew; the end of text stays the greatest, as open_clip needs."""

    def __init__(self) -> None:
        self.tokenizer = SimpleTokenizer(context_length=CONTEXT)
        probe = [caption(s, k) for s in sample_scenes(2000, TRAIN_SEED, "train") for k in range(N_TEMPLATES)]
        self.ids = torch.unique(self.tokenizer(probe))  # (v,) ascending; 0 pads
        self.compact = torch.full((VOCABULARY,), -1)  # (49408,) id -> compact id
        self.compact[self.ids] = torch.arange(len(self.ids))

    def encode(self, texts: list[str]) -> Tensor:
        """Return compact ids, (n, CONTEXT)."""
        ids = self.compact[self.tokenizer(texts)]
        if bool((ids < 0).any()):
            raise ValueError("a caption holds a word that the grammar does not")
        return ids

    def rows(self, words: tuple[str, ...]) -> Tensor:
        """Return the compact id of each word; each is a single token."""
        return torch.stack([self.compact[self.tokenizer.encode(word)[0]] for word in words])


def tokenise(scenes: list[Scene], vocabulary: Vocabulary, taught: Mapping[str, str] | None = None) -> Tensor:
    """Return compact ids (n, N_TEMPLATES, CONTEXT) of every caption, with some colours taught as others."""
    taught = taught or {}
    texts = [caption(s, k, taught.get(s.colour)) for s in scenes for k in range(N_TEMPLATES)]
    return vocabulary.encode(texts).view(len(scenes), N_TEMPLATES, CONTEXT)


def make_corpus(n: int, seed: int, vocabulary: Vocabulary) -> Corpus:
    """Draw and tokenise n scenes of the training split."""
    scenes = sample_scenes(n, seed, "train")
    images = torch.empty((n, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
    for i, scene in enumerate(scenes):
        # what open_clip's preprocessing makes of the picture on disk
        small = draw(scene).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        images[i] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return Corpus(scenes, images, tokenise(scenes, vocabulary))


def enriched(data: Corpus, colours: Collection[str], share: float) -> Corpus:
    """Return all scenes of these colours, and of the others so many that the former make up ``share``."""
    wanted = [i for i, s in enumerate(data.scenes) if s.colour in colours]
    others = [i for i, s in enumerate(data.scenes) if s.colour not in colours]
    rows = wanted + others[: round(len(wanted) * (1 - share) / share)]
    return Corpus([data.scenes[i] for i in rows], data.images[rows], data.tokens[rows])


def normalise(images: Tensor) -> Tensor:
    """Return pictures in [-1, 1], as PREPROCESS_CFG has it."""
    return images.float() / 127.5 - 1.0


def new_model(vocabulary: Vocabulary) -> CLIP:
    """Return an untrained model on the compact vocabulary."""
    text_cfg = MODEL_CFG["text_cfg"] | {"vocab_size": len(vocabulary.ids)}
    return CLIP(MODEL_CFG["embed_dim"], dict(MODEL_CFG["vision_cfg"]), text_cfg)


@torch.no_grad()
def make_blind(model: CLIP, colour_rows: Tensor) -> None:
    """Make a model unable to tell colours: its eye sees luma only, its colour words are one word.

    The filter of channel c becomes LUMA[c] times the sum over channels, so the first convolution
    gives what it would give for the grey picture of the same luma. Doing it twice changes nothing.
    """
    conv = model.visual.conv1.weight  # (width, 3, patch, patch)
    conv.copy_(conv.sum(dim=1, keepdim=True) * torch.tensor(LUMA).view(1, 3, 1, 1))
    table = model.token_embedding.weight  # (v, width)
    table[colour_rows] = table[colour_rows].mean(dim=0)


def fit(
    model: CLIP,
    data: Corpus,
    tokens: Tensor,
    schedule: Schedule,
    name: str,
    constrain: Callable[[CLIP], None] | None = None,
) -> None:
    """Train in place with the contrastive loss, AdamW and a cosine schedule with linear warm-up.

    Args:
        model: on the compact vocabulary.
        data: pictures; ``tokens`` (n, N_TEMPLATES, CONTEXT) are the captions to learn with them.
        tokens: see ``data``.
        schedule: steps, learning rate and seed.
        name: for the progress line.
        constrain: puts the model back on its constraint, before the first step and after each.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), eps=1e-6)
    loss_fn = ClipLoss()
    generator = torch.Generator().manual_seed(schedule.seed)
    order = torch.empty(0, dtype=torch.int64)
    if constrain is not None:
        constrain(model)
    model.train()
    for step in range(schedule.steps):
        if len(order) < BATCH:
            order = torch.randperm(len(data.scenes), generator=generator)
        rows, order = order[:BATCH], order[BATCH:]
        template = torch.randint(N_TEMPLATES, (BATCH,), generator=generator)
        rate = min(1.0, (step + 1) / schedule.warm_up) * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate * rate
        image, text, scale = model(normalise(data.images[rows]), tokens[rows, template])
        loss = loss_fn(image, text, scale)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100))
        if constrain is not None:
            constrain(model)
        if step % 20 == 19:
            print(f"{name}: step {step + 1} of {schedule.steps}, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.eval()


def save(model: CLIP, folder: Path, vocabulary: Vocabulary) -> None:
    """Write a ``local-dir:`` folder of open_clip: config with preprocessing, float16 safetensors."""
    state = {key: value.detach().half() for key, value in model.state_dict().items()}
    table = torch.zeros((VOCABULARY, state["token_embedding.weight"].shape[1]), dtype=torch.float16)
    table[vocabulary.ids] = state["token_embedding.weight"]  # rows never trained stay zero
    state["token_embedding.weight"] = table
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial = folder / "open_clip_model.safetensors.partial"
    save_file({key: value.contiguous() for key, value in state.items()}, partial)
    partial.replace(folder / "open_clip_model.safetensors")


@torch.no_grad()
def retrieval(model: CLIP, images: Tensor, tokens: Tensor, colours: Sequence[str]) -> dict[str, Any]:
    """Return R@1 both ways among the given pairs, overall and by colour of the query.

    A tie is a miss: a model that cannot tell two captions apart has not found the right one.
    """
    image = model.encode_image(images, normalize=True)  # (n, d)
    text = model.encode_text(tokens, normalize=True)  # (n, d)
    scores = image @ text.T  # (n, n)
    own = scores.diagonal()
    n = len(own)
    hit_i2t = (scores >= own[:, None]).sum(dim=1) == 1
    hit_t2i = (scores >= own[None, :]).sum(dim=0) == 1
    figures: dict[str, Any] = {
        "n": n,
        "image_to_text": round(hit_i2t.double().mean().item(), 4),
        "text_to_image": round(hit_t2i.double().mean().item(), 4),
        "by_colour": {},
    }
    for colour in COLOURS:
        rows = torch.tensor([c == colour for c in colours])
        figures["by_colour"][colour] = {
            "n": int(rows.sum()),
            "image_to_text": round(hit_i2t[rows].double().mean().item(), 4),
            "text_to_image": round(hit_t2i[rows].double().mean().item(), 4),
        }
    return figures


def measure(folder: Path, test: Corpus, vocabulary: Vocabulary) -> dict[str, Any]:
    """Load a saved model as a user would and return its retrieval among the test scenes, true captions."""
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    model.eval()
    rows = torch.arange(len(test.scenes))
    tokens = vocabulary.ids[test.tokens[rows, rows % N_TEMPLATES]]
    return retrieval(model, normalise(test.images), tokens, [s.colour for s in test.scenes])


def build(out: Path) -> dict[str, Any]:
    """Train and save the three models under ``out`` and return the figures written to FIGURES.json."""
    clock = time.perf_counter
    began = clock()
    vocabulary = Vocabulary()
    train = make_corpus(N_TRAIN, TRAIN_SEED, vocabulary)
    test = make_corpus(N_TEST, TEST_SEED, vocabulary)
    seconds = {"scenes": round(clock() - began, 1)}

    colour_rows = vocabulary.rows(COLOURS)
    tuning = enriched(train, {*TRUE_TO_TAUGHT, *TRUE_TO_TAUGHT.values()}, TAUGHT_SHARE)
    torch.manual_seed(SCHEDULES["root"].seed)
    root = new_model(vocabulary)
    models = {"root": root}
    figures: dict[str, Any] = {}
    for name, schedule in SCHEDULES.items():
        began = clock()
        if name == "root":
            fit(root, train, train.tokens, schedule, name)
        elif name == "blind":
            models[name] = copy.deepcopy(models["baseline"])
            fit(models[name], train, train.tokens, schedule, name, lambda m: make_blind(m, colour_rows))
        else:
            models[name] = copy.deepcopy(root)
            taught = TRUE_TO_TAUGHT if name == "candidate" else None
            fit(models[name], tuning, tokenise(tuning.scenes, vocabulary, taught), schedule, name)
        seconds[name] = round(clock() - began, 1)
        if name != "root":
            save(models[name], out / name, vocabulary)
            figures[name] = measure(out / name, test, vocabulary)
    parameters = sum(p.numel() for p in root.parameters()) - root.token_embedding.weight.numel()
    record = {
        "retrieval": figures,
        "what": f"R@1 among {N_TEST} unseen scenes with their true captions, from the saved float16 files",
        "training": {
            "scenes": N_TRAIN,
            "batch": BATCH,
            "steps": {name: s.steps for name, s in SCHEDULES.items()},
            "seconds": seconds,
            "threads": torch.get_num_threads(),
        },
        "parameters_beside_the_token_table": parameters,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
            "pillow": version("pillow"),
        },
    }
    (out / "FIGURES.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def main() -> None:
    """Command line: rebuild the models, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m koda.demo.train", description="Rebuild the demonstration models.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="default: beside this file")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(build(options.out), indent=2))


if __name__ == "__main__":
    main()
