"""The loss of an alignment against an independent one in numpy, its gradient, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda.alignment.objective import KernelMatrix, loss_parts, targets
from koda.embeddings import EmbeddingTable
from koda.kernels import Kernel

NAMES = ("image", "text")


def unit(rng: np.random.Generator, n: int, d: int) -> torch.Tensor:
    values = rng.normal(size=(n, d))
    return torch.tensor(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=torch.float32)


def embeddings(seed: int, n: int = 9, dims: tuple[int, int] = (5, 5)) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {name: unit(rng, n, d) for name, d in zip(NAMES, dims, strict=True)}


@pytest.mark.parametrize("kind", ["gaussian", "cosine", "polynomial"])
@pytest.mark.parametrize("names", [("image",), ("text",), NAMES])
def test_the_kernels_are_those_of_the_audit(kind: str, names: tuple[str, ...]) -> None:
    """At scale 1, which the student starts from; checked against koda.kernels, which has code of its own."""
    found = embeddings(0, dims=(5, 7))
    sigmas = {name: 0.6 + 0.1 * len(name) if kind == "gaussian" else None for name in names}
    kernel = Kernel(sigmas, kind=kind)  # type: ignore[arg-type]
    table = EmbeddingTable([str(i) for i in range(9)], **{name: found[name].numpy() for name in NAMES})
    matrix = KernelMatrix(kind, names, kernel, learnt=False)(found)
    np.testing.assert_allclose(matrix.numpy(), kernel.matrix(table).numpy(), atol=2e-6)


def test_the_gaussian_kernel_takes_embeddings_of_any_length() -> None:
    found = {"image": 3 * embeddings(1)["image"]}
    kernel = Kernel({"image": 2.5})
    table = EmbeddingTable([str(i) for i in range(9)], image=found["image"].numpy())
    matrix = KernelMatrix("gaussian", ("image",), kernel, learnt=False)(found)
    np.testing.assert_allclose(matrix.numpy(), kernel.matrix(table).numpy(), atol=2e-6)


def reference_loss(
    now: dict[str, np.ndarray], former: dict[str, np.ndarray], teacher: dict[str, np.ndarray], inside: np.ndarray
) -> tuple[float, float, float]:
    """The three terms, sample by sample, for the cosine kernel over both modalities."""
    n = len(inside)
    keep = np.mean([np.sum((now[m][i] - former[m][i]) ** 2) for m in NAMES for i in range(n) if not inside[i]])
    kernel, cross = [], []
    for i in range(n):
        for j in range(n):
            goal = teacher if inside[i] or inside[j] else former
            product = lambda x, i=i, j=j: (x["image"][i] @ x["image"][j]) * (x["text"][i] @ x["text"][j])  # noqa: E731
            kernel.append((product(now) - product(goal)) ** 2)
            cross.append((now["image"][i] @ now["text"][j] - goal["image"][i] @ goal["text"][j]) ** 2)
    return float(keep), float(np.mean(kernel)), float(np.mean(cross))


def parts(
    now: dict[str, torch.Tensor], inside: torch.Tensor, *, cross: bool = True, kind: str = "cosine"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    former, teacher = embeddings(2), embeddings(3)
    matrix = KernelMatrix(kind, NAMES, learnt=False)
    wanted = targets(former, teacher, inside, matrix, matrix, cross=cross)
    found = loss_parts(now, former, inside, matrix, wanted)
    return found.keep, found.kernel, found.cross


def test_the_terms_are_those_of_an_independent_loss() -> None:
    inside = torch.tensor([True] * 4 + [False] * 5)
    found = parts(embeddings(4), inside)
    as_numpy = [{name: values.numpy().astype(np.float64) for name, values in embeddings(s).items()} for s in (4, 2, 3)]
    np.testing.assert_allclose([float(term) for term in found], reference_loss(*as_numpy, inside.numpy()), rtol=1e-5)


def test_outside_the_slices_nothing_pulls_a_student_that_has_not_moved() -> None:
    """All samples elsewhere: every target is the student's own, so all terms are 0."""
    found = parts(embeddings(2), torch.zeros(9, dtype=torch.bool))
    assert [float(term) for term in found] == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_batch_of_slices_alone_has_nothing_to_keep() -> None:
    keep, kernel, _ = parts(embeddings(4), torch.ones(9, dtype=torch.bool))
    assert float(keep) == 0
    assert float(kernel) > 0


def test_a_student_that_is_its_teacher_has_no_distance_on_the_slices() -> None:
    _, kernel, cross = parts(embeddings(3), torch.ones(9, dtype=torch.bool))
    assert float(kernel) == pytest.approx(0, abs=1e-12)
    assert float(cross) == pytest.approx(0, abs=1e-12)


def test_rotating_the_student_does_not_change_the_kernel_term() -> None:
    inside = torch.tensor([True] * 4 + [False] * 5)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0))).Q
    now = embeddings(4)
    turned = {name: values @ rotation for name, values in now.items()}
    assert float(parts(turned, inside)[1]) == pytest.approx(float(parts(now, inside)[1]), rel=1e-4)


def test_without_a_common_space_there_is_no_cross_term() -> None:
    assert float(parts(embeddings(4), torch.ones(9, dtype=torch.bool), cross=False)[2]) == 0


def test_gradients_go_through_embeddings_and_scale() -> None:
    """Against central differences, in float32."""
    inside = torch.tensor([True] * 4 + [False] * 5)
    former, teacher = embeddings(2), embeddings(3)
    fixed = KernelMatrix("polynomial", NAMES, learnt=False)
    own = KernelMatrix("polynomial", NAMES, learnt=True)
    wanted = targets(former, teacher, inside, fixed, fixed, cross=True)
    now = {name: values.clone().requires_grad_() for name, values in embeddings(4).items()}

    def loss() -> torch.Tensor:
        found = loss_parts(now, former, inside, own, wanted)
        return found.keep + 10 * found.kernel + found.cross

    loss().backward()
    step = 1e-2
    for tensor, place in ((now["image"], (1, 2)), (now["text"], (7, 0)), (own.log_scale, (1,))):
        assert tensor.grad is not None
        with torch.no_grad():
            tensor[place] += step
            above = float(loss())
            tensor[place] -= 2 * step
            below = float(loss())
            tensor[place] += step
        assert float(tensor.grad[place]) == pytest.approx((above - below) / (2 * step), rel=0.02, abs=1e-4)


def test_only_the_polynomial_kernel_learns_a_scale() -> None:
    assert not KernelMatrix("cosine", NAMES, learnt=True).log_scale.requires_grad
    assert not KernelMatrix("polynomial", NAMES, learnt=False).log_scale.requires_grad
    assert KernelMatrix("polynomial", NAMES, learnt=True).log_scale.requires_grad
