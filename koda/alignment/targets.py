"""What there is to learn, as tensors: embeddings, kernels and the targets of any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from koda.alignment.batches import Sampler
from koda.alignment.groups import Group, Split, members_of
from koda.alignment.objective import KernelMatrix, Targets, loss_parts, targets
from koda.config import AlignmentConfig
from koda.datasets import Pair
from koda.discrepancy import Solution
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, TrainingError
from koda.kernels.kernel import unit_embeddings

_BATCHES_BEFORE = 8  # that the size of the terms before training is measured on
ROUNDING = 1e-12  # of a mean squared difference of kernel values in float32


@dataclass(frozen=True)
class AlignmentTask:
    """What there is to learn, and from what.

    Args:
        config: how.
        groups, split: the slices, and which samples serve what.
        pairs: key -> pair.
        former, teacher: embeddings of the student and of the teacher in the audit.
        solution: of the side; its target is the teacher and its reference the student.
    """

    config: AlignmentConfig
    groups: tuple[Group, ...]
    split: Split
    pairs: Mapping[str, Pair]
    former: EmbeddingTable
    teacher: EmbeddingTable
    solution: Solution


class AlignmentTargets:
    """The embeddings of the training and validation samples on the device, and what batches of them are to become.

    Args:
        task: what to learn.
        towers: that are trained.
        device: where.

    Raises:
        ConfigError: a cross term between embeddings that share no space.
        TrainingError: student and teacher have the same kernel.
    """

    def __init__(self, task: AlignmentTask, towers: Sequence[str], device: torch.device) -> None:
        config, kernels = task.config, task.solution.kernels
        names = kernels.target.modalities
        self.device = device
        self.teacher_kernel = KernelMatrix(config.kernel, names, kernels.target, learnt=False).to(device)
        self.student_kernel = KernelMatrix(config.kernel, names, kernels.reference, learnt=True).to(device)
        self.former_kernel = KernelMatrix(config.kernel, names, kernels.reference, learnt=False).to(device)
        self.cross_weight = _cross_weight(task)
        cross = ("image", "text") if self.cross_weight else ()
        keys = [*task.split.train, *task.split.validation]
        self._row_of = {key: row for row, key in enumerate(keys)}
        former, teacher = task.former.select(keys), task.teacher.select(keys)
        self._former = {
            name: unit_embeddings(former, name, device, torch.float32)
            for name in dict.fromkeys([*names, *towers, *cross])
        }
        self._teacher = {  # the audit's gaussian kernel takes embeddings as they are, and a folder's have any length
            name: torch.as_tensor(getattr(teacher, name)).to(device, torch.float32)
            if config.kernel == "gaussian"
            else unit_embeddings(teacher, name, device, torch.float32)
            for name in dict.fromkeys([*names, *cross])
        }
        self.members = members_of(task.groups)
        self.sampler = Sampler(
            [key for key in task.split.train if key in self.members],
            [key for key in task.split.train if key not in self.members],
            config.batch_size,
            config.slice_share,
            config.seed,
        )
        self.before = self._before()

    def former(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the student's former embeddings, modality -> (b, d)."""
        return _rows(self._former, self._rows_of(keys))

    def teacher(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the teacher's embeddings, modality -> (b, d)."""
        return _rows(self._teacher, self._rows_of(keys))

    def in_slice(self, keys: Sequence[str]) -> Tensor:
        """Return which of the samples are in a slice, (b,)."""
        return torch.tensor([key in self.members for key in keys], device=self.device)

    def of_batch(self, keys: Sequence[str]) -> Targets:
        """Return what the kernel matrix and the cosines of a batch are to be."""
        return targets(
            self.former(keys),
            self.teacher(keys),
            self.in_slice(keys),
            self.former_kernel,
            self.teacher_kernel,
            cross=self.cross_weight > 0,
        )

    def _rows_of(self, keys: Sequence[str]) -> Tensor:
        return torch.tensor([self._row_of[key] for key in keys], device=self.device)

    @torch.no_grad()
    def _before(self) -> tuple[float, float]:
        """Return the kernel term and the cross term before training, over some batches."""
        values = []
        for number in range(_BATCHES_BEFORE):
            keys = self.sampler.batch(number)
            former = self.former(keys)
            parts = loss_parts(former, former, self.in_slice(keys), self.former_kernel, self.of_batch(keys))
            values.append([float(parts.kernel), float(parts.cross)])
        kernel, cross = np.mean(values, axis=0).tolist()
        if not kernel > ROUNDING:
            raise TrainingError(
                "Student and teacher have the same kernel on the slices: there is nothing to learn.",
                "Name two models that differ.",
            )
        return kernel, cross or 1.0


def _rows(embeddings: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in embeddings.items()}


def _cross_weight(task: AlignmentTask) -> float:
    """Return the weight of the cross term: by default 1 where both models have image and text in one space.

    Raises:
        ConfigError: a weight, but no such space.
    """
    wanted = task.config.cross_weight
    if wanted == 0:
        return 0.0
    for role, table in (("student", task.former), ("teacher", task.teacher)):
        if {"image", "text"} <= set(table.modalities) and table.dims["image"] == table.dims["text"]:
            continue
        if wanted is None:
            return 0.0
        raise ConfigError(
            f"alignment.cross_weight: image and text embeddings of the {role} share no space.", "Set it to 0."
        )
    compared = task.solution.kernels.target.modalities
    return wanted if wanted is not None else float(len(compared) == 2)
