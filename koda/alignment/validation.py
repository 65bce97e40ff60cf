"""A look at the validation samples while training: agreement with the teacher on the slices, retrieval on all."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from koda.alignment.batches import Pictures
from koda.alignment.objective import KernelMatrix
from koda.alignment.student import Student
from koda.alignment.targets import ROUNDING, AlignmentTargets, AlignmentTask
from koda.embeddings import EmbeddingTable
from koda.kernels.kernel import unit_embeddings
from koda.metrics.identity import with_captions_and_images
from koda.metrics.retrieval import recall

_MOST_SAMPLES = {"slice": 1000, "rest": 3000}  # that are measured at one step, of each part
_BATCH_SIZE = 256


class Validation:
    """A seeded part of the validation samples, and how to measure a student on them."""

    def __init__(self, task: AlignmentTask, targets: AlignmentTargets) -> None:
        self._task, self._targets = task, targets
        parts: dict[str, list[str]] = {"slice": [], "rest": []}
        for key in task.split.validation:
            parts["slice" if key in targets.members else "rest"].append(key)
        for name, most in _MOST_SAMPLES.items():
            if len(parts[name]) > most:
                rows = np.random.default_rng(task.config.seed).choice(len(parts[name]), size=most, replace=False)
                parts[name] = [parts[name][row] for row in np.sort(rows).tolist()]
        self._keys = [*parts["slice"], *parts["rest"]]

    @torch.no_grad()
    def measure(self, student: Student, pictures: Pictures, autocast: torch.autocast) -> tuple[float, float | None]:
        """Return (agreement, mean R@1).

        The agreement compares kernel values between samples of the slices: 1 less their mean squared distance to the
        teacher's, over what that was before training. It is nan where embeddings are not finite.
        """
        student.model.eval()
        targets, pairs = self._targets, self._task.pairs
        chunks = [self._keys[first : first + _BATCH_SIZE] for first in range(0, len(self._keys), _BATCH_SIZE)]
        batches: list[tuple[list[str], dict[str, Tensor]]] = []
        for usable, pixels in pictures.batches(iter(chunks)):
            with autocast:
                embeddings = student.embed(pixels, [pairs[key].caption for key in usable])
            batches.append((usable, {name: values.float() for name, values in embeddings.items()}))
        keys = [key for usable, _ in batches for key in usable]
        trained = {name: torch.cat([embeddings[name] for _, embeddings in batches]) for name in student.towers}
        inside = [key for key in keys if key in targets.members]  # they come first
        former = targets.former(inside)
        now = {**former, **{name: values[: len(inside)] for name, values in trained.items()}}
        teacher = targets.teacher_kernel(targets.teacher(inside))
        before = _distance(former, targets.former_kernel, teacher)
        agreement = 1 - _distance(now, targets.student_kernel, teacher) / max(before, ROUNDING)
        return agreement if math.isfinite(agreement) else math.nan, self._retrieval(keys, trained)

    def _retrieval(self, keys: list[str], trained: Mapping[str, Tensor]) -> float | None:
        """Return the mean of image-to-text and text-to-image R@1 among the samples; what is not trained stays."""
        part = self._task.former.select(keys)
        if not {"image", "text"} <= set(part.modalities) | set(trained):
            return None
        image, text = (
            (trained[name] if name in trained else unit_embeddings(part, name, "cpu", torch.float32)).cpu().numpy()
            for name in ("image", "text")
        )
        if not (np.isfinite(image).all() and np.isfinite(text).all()):
            return None
        table = with_captions_and_images(EmbeddingTable(keys, image, text), self._task.pairs)
        ranked = recall(table, ks=(1,), groups="image", device=str(self._targets.device))
        return None if ranked is None else (ranked.image_to_text.at(1).value + ranked.text_to_image.at(1).value) / 2


def _distance(embeddings: Mapping[str, Tensor], kernel: KernelMatrix, teacher: Tensor) -> float:
    """Return the mean squared difference of kernel values, without the diagonal."""
    off = ~torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    return float((kernel(embeddings) - teacher)[off].double().square().mean())
