"""The fine-tuning itself: steps, looks at validation samples, a guard, and checkpoints to go on from."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from koda.alignment.batches import Pictures
from koda.alignment.objective import loss_parts
from koda.alignment.student import Student
from koda.alignment.targets import AlignmentTargets, AlignmentTask
from koda.alignment.validation import Validation
from koda.devices import is_fast_at_bf16, is_out_of_memory
from koda.errors import ModelError, TrainingError
from koda.records import ValidationPoint
from koda.storage import write_atomically

STATE, BEST = "training.pt", "best.pt"  # checkpoints; both are gone when the model is saved
_MAX_GRADIENT_NORM = 1.0

Progress = Callable[[int, int, ValidationPoint | None], None]


@dataclass(frozen=True)
class Trained:
    """The outcome: weights as open_clip has them, and how it went."""

    weights: dict[str, Tensor]
    looks: tuple[ValidationPoint, ...]
    kept_step: int
    stopped: str
    n_trained: int
    unreadable: dict[str, str]


@dataclass
class _Progress:
    """What a checkpoint holds beside weights."""

    step: int = 0
    looks: list[ValidationPoint] = field(default_factory=list)
    kept_step: int = 0
    stopped: str | None = None


def train(student: Student, task: AlignmentTask, folder: Path, progress: Progress | None = None) -> Trained:
    """Fine-tune a student until it sees the slices as its teacher does.

    A run that was interrupted goes on from its last look and, on the same processor with the same number of threads,
    ends in the same weights.

    Args:
        student: freshly loaded.
        task: what to learn.
        folder: for the checkpoints.
        progress: called with (steps done, steps in all, the look just taken or None).

    Raises:
        TrainingError: a loss that is not finite, or no look better than the first; nothing of it is kept.
        ModelError: memory does not hold a batch.
        ConfigError: a cross term between embeddings that share no space.
    """
    try:
        with Pictures(student.encoder, task.pairs) as pictures:
            return _Run(student, task, folder, pictures, progress).finished()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"Memory does not hold a batch of {task.config.batch_size} samples with its gradients.",
            "Set alignment.batch_size lower and alignment.accumulate higher, or alignment.towers: image.",
        ) from error


class _Run:
    """One training, from its first step or its last checkpoint to its end."""

    def __init__(
        self, student: Student, task: AlignmentTask, folder: Path, pictures: Pictures, progress: Progress | None
    ) -> None:
        self.student, self.folder, self.pictures, self.progress = student, folder, pictures, progress
        self.config, self.pairs = task.config, task.pairs
        self.device = student.encoder.device
        self.targets = AlignmentTargets(task, student.towers, self.device)
        self.validation = Validation(task, self.targets)
        half = self.config.precision == "bf16" or (
            self.config.precision == "auto" and self.device.type == "cuda" and is_fast_at_bf16(self.device)
        )
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)
        scales = [value for value in self.targets.student_kernel.parameters() if value.requires_grad]
        self.parameters = {**student.trained, **{f"kernel.{i}": value for i, value in enumerate(scales)}}
        self.optimiser = torch.optim.AdamW(
            list(self.parameters.values()), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        self.at = _Progress()
        self.best: dict[str, Tensor] = {}

    def finished(self) -> Trained:
        """Train to the end, and return the best state that the guard lets pass."""
        config = self.config
        if not self._resume():
            self._look([], 0.0)
        wanted = (
            self.targets.sampler.batch(number)
            for number in range(self.at.step * config.accumulate, config.steps * config.accumulate)
        )
        batches = self.pictures.batches(wanted) if self.at.stopped is None else iter(())
        since: list[tuple[float, ...]] = []
        self.student.train_mode()
        while self.at.stopped is None:
            since.append(self._step(batches))
            if self.progress is not None:
                self.progress(self.at.step, config.steps, None)
            if self.at.step % config.evaluate_every == 0 or self.at.step == config.steps:
                self._look(since, self._rate(self.at.step - 1))
                since = []
                self.student.train_mode()
        if self.at.kept_step == 0:
            self._forget()
            raise TrainingError(
                f"The fine-tuning brought {self.student.encoder.resolved.label} no nearer to its teacher on "
                f"the validation slices: {self.at.stopped}. No model is kept.",
                "Change alignment.learning_rate or steps, or allow a larger alignment.max_retrieval_drop.",
            )
        with torch.no_grad():
            for name, value in self.best.items():
                self.parameters[name].copy_(value)
        n_trained = sum(value.numel() for value in self.student.trained.values())
        return Trained(
            self.student.state(),
            tuple(self.at.looks),
            self.at.kept_step,
            self.at.stopped,
            n_trained,
            dict(sorted(self.pictures.unreadable.items())),
        )

    def _step(self, batches: Iterator[tuple[list[str], Tensor]]) -> tuple[float, ...]:
        """Take one step of the optimiser, and return (loss, keep, kernel, cross)."""
        config, sums = self.config, np.zeros(4)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.at.step)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(config.seed * 1_000_003 + self.at.step)  # for towers that drop patches
            for _ in range(config.accumulate):
                keys, pixels = next(batches)
                with self.autocast:
                    embeddings = self.student.embed(pixels, [self.pairs[key].caption for key in keys])
                former = self.targets.former(keys)
                parts = loss_parts(
                    {**former, **embeddings},
                    {name: former[name] for name in embeddings},
                    self.targets.in_slice(keys),
                    self.targets.student_kernel,
                    self.targets.of_batch(keys),
                )
                terms = [
                    config.keep_weight * parts.keep,
                    config.kernel_weight * parts.kernel / self.targets.before[0],
                    self.targets.cross_weight * parts.cross / self.targets.before[1],
                ]
                loss = torch.stack(terms).sum() / config.accumulate
                loss.backward()  # type: ignore[no-untyped-call]
                sums += [loss.item(), *(term.item() / config.accumulate for term in terms)]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), _MAX_GRADIENT_NORM)
        if not (math.isfinite(sums[0]) and bool(torch.isfinite(norm))):
            raise self._diverged("the loss or its gradient is not finite")
        self.optimiser.step()
        self.at.step += 1
        return tuple(sums)

    def _forget(self) -> None:
        for name in (STATE, BEST):
            (self.folder / name).unlink(missing_ok=True)

    def _diverged(self, what: str) -> TrainingError:
        self._forget()
        return TrainingError(
            f"The fine-tuning of {self.student.encoder.resolved.label} diverged: at step {self.at.step + 1} {what}. "
            "No model is kept.",
            f"Set alignment.learning_rate lower than {self.config.learning_rate:g}.",
        )

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine."""
        warm = round(self.config.warm_up * self.config.steps)
        if step < warm:
            return self.config.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.config.steps - warm)
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def _look(self, since: list[tuple[float, ...]], rate: float) -> None:
        """Measure the validation samples, decide whether to go on, and write a checkpoint."""
        loss, keep, kernel, cross = (
            np.mean(since, axis=0).tolist() if since else [None] * 4  # nothing was trained yet
        )
        agreement, retrieval = self.validation.measure(self.student, self.pictures, self.autocast)
        if math.isnan(agreement):
            raise self._diverged("the embeddings are not finite")
        point = ValidationPoint(
            step=self.at.step,
            loss=loss,
            keep=keep,
            kernel=kernel,
            cross=cross if self.targets.cross_weight else None,
            agreement=agreement,
            retrieval=retrieval,
            learning_rate=rate,
        )
        looks = self.at.looks
        looks.append(point)
        first, best = looks[0], next(taken for taken in looks if taken.step == self.at.kept_step)
        drop = 0.0 if first.retrieval is None or retrieval is None else first.retrieval - retrieval
        if drop > self.config.max_retrieval_drop:
            self.at.stopped = (
                f"at step {point.step} R@1 of the validation samples had fallen by {drop:.3f}, more than "
                f"max_retrieval_drop = {self.config.max_retrieval_drop:g}"
            )
        elif point is first or agreement > best.agreement:
            self.at.kept_step = point.step
            self.best = {name: value.detach().cpu().clone() for name, value in self.parameters.items()}
            if point is not first:
                _save(self.folder / BEST, {"step": point.step, "values": self.best})
        elif sum(taken.step > self.at.kept_step for taken in looks) >= self.config.patience:
            looks_in_vain = f"{self.config.patience} look{'s' if self.config.patience > 1 else ''}"
            self.at.stopped = f"the agreement on the validation slices had not risen in {looks_in_vain}"
        if self.at.stopped is None and self.at.step >= self.config.steps:
            self.at.stopped = "all steps were done"
        self._checkpoint()
        if self.progress is not None:
            self.progress(self.at.step, self.config.steps, point)

    def _checkpoint(self) -> None:
        at = self.at
        _save(
            self.folder / STATE,
            {
                "step": at.step,
                "looks": [point.model_dump() for point in at.looks],
                "kept_step": at.kept_step,
                "stopped": at.stopped,
                "values": {name: value.detach().cpu() for name, value in self.parameters.items()},
                "optimiser": self.optimiser.state_dict(),
                "unreadable": dict(self.pictures.unreadable),
            },
        )

    def _resume(self) -> bool:
        """Take up the last checkpoint, if there is one."""
        state = _load(self.folder / STATE)
        if state is None:
            return False
        nothing: dict[str, Any] = {"step": 0, "values": {}}
        best = _load(self.folder / BEST) if state["kept_step"] else nothing
        if best is None or best["step"] < state["kept_step"]:
            return False  # the one without the other is of no use: from the beginning
        with torch.no_grad():
            for name, value in state["values"].items():
                self.parameters[name].copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = dict(best["values"])
        self.pictures.unreadable.update(state["unreadable"])
        looks = [ValidationPoint.model_validate(point) for point in state["looks"]]
        self.at = _Progress(state["step"], looks, state["kept_step"], state["stopped"])
        return True


def _save(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint of our own, or nothing: a damaged one only costs time."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a truncated file makes the reader stumble over
        return None
    return state
