"""What an alignment minimises: the distance to the teacher on the slices, and to what the student was elsewhere.

A batch holds b samples, some of them in a slice. With f the student's unit embeddings and f_0 the former ones ::

    loss = w_keep * mean over towers and samples i in no slice of |f(x_i) - f_0(x_i)|^2
         + w_kernel * mean over i, j of (K - T)_ij^2 / c_kernel
         + w_cross * mean over i, j of (S - R)_ij^2 / c_cross

K is the student's kernel matrix over the batch and S its image-text cosines; T and R are their targets: the teacher's
values where i or j is in a slice, and the student's own former ones where neither is. c is the value of the mean before
training, so that the weights mean the same for all kernels and models.

Source: method of paper 2606.04180, after Gong et al. 2025 (arXiv 2506.02557), who keep and match all samples alike. To
match a sample and to keep it contradict each other, and matching the teacher elsewhere loses what the student does
better there; benchmarks/alignment.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from koda.kernels import Kernel

Embeddings = Mapping[str, Tensor]  # modality -> (b, d), of unit length


class KernelMatrix(nn.Module):
    """A kernel matrix that gradients go through: the product over modalities of one kernel each.

    - gaussian: ``exp(-|u - u'|^2 / 2 sigma^2)`` with the bandwidths of the audit
    - cosine: ``u'u'``
    - polynomial: ``((1 + s u'u') / (1 + s))^3``: cubic, normalised to 1 on the diagonal; s = 1 is the kernel of
      :mod:`koda.kernels`, and the student's s is learnt, by its logarithm

    Args:
        kind: which.
        modalities: factors.
        kernel: of the audit, whose bandwidths the gaussian has.
        learnt: whether s is a parameter.
    """

    def __init__(self, kind: str, modalities: tuple[str, ...], kernel: Kernel | None = None, *, learnt: bool) -> None:
        super().__init__()
        self.kind, self.modalities = kind, modalities
        self.sigmas = {} if kernel is None else kernel.bandwidths
        scales = torch.zeros(len(modalities))
        self.log_scale = nn.Parameter(scales, requires_grad=learnt and kind == "polynomial")

    def forward(self, x: Embeddings, y: Embeddings | None = None) -> Tensor:
        """Return k(x_i, y_j), (b, c), in fp32; y defaults to x. All but the gaussian kernel want unit embeddings."""
        other = x if y is None else y
        result: Tensor | None = None
        for place, name in enumerate(self.modalities):
            u, w = x[name].float(), other[name].float()
            products = u @ w.T  # (b, c)
            if self.kind == "gaussian":
                distances = u.square().sum(1)[:, None] + w.square().sum(1) - 2 * products  # squared
                factor = torch.exp(distances.clamp(min=0) / (-2 * self.sigmas[name] ** 2))
            elif self.kind == "polynomial":
                scale = self.log_scale[place].exp()
                factor = ((1 + scale * products) / (1 + scale)).pow(3)
            else:
                factor = products
            result = factor if result is None else result * factor
        assert result is not None, "a kernel without modalities"
        return result


@dataclass(frozen=True)
class Targets:
    """What the kernel matrix and the image-text cosines of a batch are to be, (b, b) each."""

    kernel: Tensor
    cross: Tensor | None


def targets(
    former: Embeddings,
    teacher: Embeddings,
    in_slice: Tensor,
    former_kernel: KernelMatrix,
    teacher_kernel: KernelMatrix,
    *,
    cross: bool,
) -> Targets:
    """Return the targets of a batch.

    Args:
        former: embeddings of the student before training, unit length.
        teacher: embeddings of the teacher, as its kernel wants them.
        in_slice: (b,) bool.
        former_kernel, teacher_kernel: over the same modalities.
        cross: whether the image-text cosines are to match too; then both models have both in one space.
    """
    learnt = in_slice[:, None] | in_slice[None, :]  # (b, b)
    kernel = torch.where(learnt, teacher_kernel(teacher), former_kernel(former))
    if not cross:
        return Targets(kernel, None)
    return Targets(kernel, torch.where(learnt, _cosines(teacher), _cosines(former)))


@dataclass(frozen=True)
class Parts:
    """The terms of the loss, before their weights."""

    keep: Tensor
    kernel: Tensor
    cross: Tensor


def loss_parts(
    now: Embeddings, former: Embeddings, in_slice: Tensor, student_kernel: KernelMatrix, wanted: Targets
) -> Parts:
    """Return the terms of the loss over one batch, neither weighted nor divided by c.

    Args:
        now: the student's embeddings, with gradients where a tower is trained; unit length.
        former: its embeddings before training, of the towers that are trained.
        in_slice: (b,) bool.
        student_kernel: of the student as it is.
        wanted: see :func:`targets`.
    """
    zero = in_slice.new_zeros((), dtype=torch.float32)
    others = ~in_slice
    moved = [(now[name].float() - former[name])[others].square().sum(dim=1) for name in former]  # (others,) each
    keep = torch.stack(moved).mean() if bool(others.any()) else zero
    kernel = (student_kernel(now) - wanted.kernel).square().mean()
    cross = zero if wanted.cross is None else (_cosines(now) - wanted.cross).square().mean()
    return Parts(keep, kernel, cross)


def _cosines(embeddings: Embeddings) -> Tensor:
    """Return the cosines of all images with all texts, (b, b)."""
    image, text = (nn.functional.normalize(embeddings[name].float(), dim=1) for name in ("image", "text"))
    return image @ text.T
