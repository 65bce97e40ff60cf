"""The space of a feature map against the same vectors written out over the samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda.discrepancy.limits import EnergyLimit, FixedWeight
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.feature_space import FeatureSpace
from koda.discrepancy.solver.sample_space import SampleSpace
from koda.discrepancy.solver.space import Block
from koda.discrepancy.solver.state import SolverRequest
from koda.discrepancy.solver.subspace import solve_subspace
from tests.discrepancy.problems import complement


class Case:
    """Random features over n samples, and the forms of their kernels.

    Args:
        d_a, d_b: widths of the two maps.
        repeated, shared: columns that the target's map has twice, and that both maps have.
    """

    def __init__(self, n: int, d_a: int, d_b: int, seed: int, *, repeated: int = 0, shared: int = 0) -> None:
        rng = np.random.default_rng(seed)
        fa, fb = (rng.normal(size=(n, d)) * rng.random(d) ** 2 for d in (d_a, d_b))
        fb[:, :shared] = fa[:, :shared]
        fa = np.column_stack([fa, fa[:, :repeated]])
        fa, fb = (f * np.sqrt(n / (f**2).sum()) for f in (fa, fb))
        self.n, self.split = n, fa.shape[1]
        self.phi = np.column_stack([fa, fb])  # (n, D)
        self.g = self.phi.T @ self.phi / n
        self.a, self.b = fa @ fa.T / n, fb @ fb.T / n
        u, s, _ = np.linalg.svd(self.phi)
        self.rank = int((s > 1e-9 * s[0]).sum())
        self.null = u[:, self.rank :]  # (n, n - rank)

    def space(self, outside: int = 0) -> FeatureSpace:
        return FeatureSpace(torch.tensor(self.g), self.split, outside)

    def samples(self, space: FeatureSpace, raw: torch.Tensor) -> np.ndarray:
        """x = Phi w / sqrt(n) and what lies outside the range."""
        w, z = raw[: space.width].numpy(), raw[space.width : space.dim].numpy()
        return self.phi @ w / np.sqrt(self.n) + self.null[:, : space.outside] @ z

    def consistent(self, space: FeatureSpace, raw: torch.Tensor) -> bool:
        """Whether the products that raw vectors carry are those of their coordinates."""
        return np.allclose(raw[space.dim :].numpy(), self.g @ raw[: space.width].numpy(), atol=1e-10)


CASES = {
    "regular": lambda: Case(60, 12, 9, 0),
    "repeated columns": lambda: Case(60, 10, 9, 1, repeated=4),
    "columns of both maps": lambda: Case(60, 10, 8, 2, shared=5),
    "fewer samples than columns": lambda: Case(20, 18, 15, 3),
    "one column each": lambda: Case(15, 1, 1, 4),
}
OUTSIDE = [0, 3]


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]()


def blocks_of(case: Case, outside: int, sizes: tuple[int, ...] = (4, 5)) -> tuple[FeatureSpace, list[Block]]:
    """A space and orthonormal blocks in it, each extending those before."""
    space = case.space(min(outside, case.n - case.rank))
    generator = torch.Generator().manual_seed(5)
    blocks: list[Block] = []
    for size in sizes:
        blocks.append(space.extend(space.random(size, generator), blocks))
    return space, blocks


@pytest.mark.parametrize("outside", OUTSIDE)
def test_raw_vectors_carry_their_products_and_know_their_norms(case, outside):
    space = case.space(min(outside, case.n - case.rank))
    raw = space.random(6, torch.Generator().manual_seed(0))
    x = case.samples(space, raw)
    assert case.consistent(space, raw)
    assert np.allclose(space.norms(raw), np.linalg.norm(x, axis=0))


@pytest.mark.parametrize("outside", OUTSIDE)
def test_blocks_are_orthonormal_over_the_samples(case, outside):
    space, blocks = blocks_of(case, outside)
    x = np.column_stack([case.samples(space, block.w) for block in blocks])
    assert x.shape[1] == min(9, case.rank + space.outside)
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-10
    for block in blocks:
        p = case.g @ block.w[: space.width].numpy()
        assert np.allclose(np.concatenate([block.aw, block.bw]), p, atol=1e-10)


def test_a_block_that_spans_the_space_is_extended_by_nothing(case):
    space, (block,) = blocks_of(case, 2, (80,))
    assert block.size == case.rank + space.outside
    assert space.extend(space.random(3, torch.Generator().manual_seed(1)), [block]).size == 0
    assert space.extend(torch.zeros_like(space.random(2, torch.Generator())), []).size == 0


def test_nearly_dependent_vectors_are_extended_soundly(case):
    space, (block,) = blocks_of(case, 0, (3,))
    new = space.random(1, torch.Generator().manual_seed(2))
    near = torch.cat([block.w, block.aw, block.bw]) @ torch.ones(block.size, 1, dtype=torch.float64) + 1e-4 * new
    added = space.extend(torch.cat([near, near, new], 1), [block])
    x = np.column_stack([case.samples(space, b.w) for b in (block, added)])
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-10
    assert added.size == min(1, case.rank - block.size)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_forms_squares_and_products_are_those_over_the_samples(case, outside):
    space, (s, t) = blocks_of(case, outside, (4, 3) if case.rank > 2 else (1, 1))
    x, y = (case.samples(space, block.w) for block in (s, t))
    for found, form in zip(space.project(s, t), (case.a, case.b), strict=True):
        assert np.allclose(found, x.T @ form @ y, atol=1e-12)
    squares = space.squares(s)
    ax, bx = case.a @ x, case.b @ x
    for found, exact in ((squares.aa, ax.T @ ax), (squares.ab, ax.T @ bx), (squares.bb, bx.T @ bx)):
        assert np.allclose(found, exact, atol=1e-12)
    raw = space.random(3, torch.Generator().manual_seed(3))
    product = space.apply_target(raw)
    assert case.consistent(space, product)
    assert np.allclose(case.samples(space, product), case.a @ case.samples(space, raw), atol=1e-12)


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_residuals_are_those_over_the_samples(case, outside, alpha):
    space, (locked, block) = blocks_of(case, outside, (2, 3) if case.rank > 2 else (1, 1))
    x, u = case.samples(space, block.w), case.samples(space, locked.w)
    values = torch.linspace(-0.2, 0.5, block.size, dtype=torch.float64)
    for multiplier in (0.7, torch.linspace(0.1, 9, block.size, dtype=torch.float64)):
        for off in (locked, space.empty()):
            raw = space.residual(block, values, alpha, multiplier, off)
            exact = alpha * case.a @ x - (case.b @ x) * np.asarray(multiplier) - x * values.numpy()
            if off.size:
                exact -= u @ (u.T @ exact)
            assert case.consistent(space, raw)
            assert np.allclose(case.samples(space, raw), exact, atol=1e-11)
            assert np.allclose(space.norms(raw), np.linalg.norm(exact, axis=0), atol=1e-7)


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("tau", [1e-3, 0.1, 10.0])
def test_the_inverse_is_what_it_says(case, outside, tau):
    space = case.space(min(outside, case.n - case.rank))
    raw = space.random(4, torch.Generator().manual_seed(4))
    solved = space.inverse(tau)(raw)
    exact = tau * np.linalg.solve(case.b + tau * np.eye(case.n), case.samples(space, raw))
    assert case.consistent(space, solved)
    assert np.allclose(case.samples(space, solved), exact, atol=1e-10)


def sigma_of(case: Case, multiplier: float) -> float:
    """The weight that the certificate gives the locked directions."""
    sizes = (np.linalg.norm(g) for g in (case.g[: case.split, : case.split], case.g[case.split :, case.split :]))
    return 4 * sum(weight * size for weight, size in zip((1.0, multiplier), sizes, strict=True))


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("t", [0, 1, 3])
def test_the_certificate_holds_over_the_spectrum_and_rejects_a_lowered_value(case, outside, t):
    """What is factorised is A - lambda B - sigma U U', which bounds A - lambda B off U."""
    space, (locked,) = blocks_of(case, outside, (max(t, 1),))
    locked = locked if t else space.empty()
    u = case.samples(space, locked.w) if t else np.zeros((case.n, 0))
    basis = complement(u) if t else np.eye(case.n)
    for multiplier in (0.0, 0.3, 2.0, 50.0):
        m = case.a - multiplier * case.b
        off = np.linalg.eigvalsh(basis.T @ m @ basis)[-1]
        top = np.linalg.eigvalsh(m - sigma_of(case, multiplier) * u @ u.T)[-1]
        if top < 1e-6:
            continue  # the target lies in the span of the locked directions
        above = space.certify(1.0, top * (1 + 1e-6), multiplier, locked)
        assert above.holds
        assert off <= top <= above.bound <= top * (1 + 1e-4)
        assert not space.certify(1.0, top * (1 - 1e-3), multiplier, locked).holds


@pytest.mark.parametrize("multiplier", [0.0, 0.5, 4.0])
def test_with_locked_eigenvectors_it_holds_just_over_the_next_eigenvalue(case, multiplier):
    """Where what is locked is not coupled to the rest, the certificate is tight."""
    space, (whole,) = blocks_of(case, 0, (80,))
    a, b = space.project(whole, whole)
    values, vectors = torch.linalg.eigh(a - multiplier * b)
    for t in (1, 2):
        if len(values) <= t or values[-t - 1] < 1e-6:
            continue
        locked, top = whole.mix(vectors[:, -t:]), float(values[-t - 1])
        above = space.certify(1.0, top * (1 + 1e-6), multiplier, locked)
        assert above.holds
        assert top <= above.bound <= top * (1 + 1e-5)
        assert not space.certify(1.0, top * (1 - 1e-3), multiplier, locked).holds
        assert not space.certify(1.0, top * (1 + 1e-6), multiplier, locked.mix(torch.eye(t)[:, 1:].double())).holds


@pytest.mark.parametrize("multiplier", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("seen", [0, 2, 80])
def test_what_a_basis_sees_of_the_reference_proves_no_more_than_all_of_it(case, multiplier, seen):
    """Soundness whatever the basis sees; with all of the space in it, what all of B proves."""
    space, (frame, more) = blocks_of(case, 0, (2, seen))
    basis = frame.join(more)
    u = case.samples(space, frame.w)
    off = complement(u)
    m = case.a - multiplier * case.b
    least = max(np.linalg.eigvalsh(off.T @ m @ off)[-1], 0.0)
    top = np.linalg.eigvalsh(m - sigma_of(case, multiplier) * u @ u.T)[-1]
    for height in np.geomspace(1e-2, 1.0, 12):
        proof = space.certify_off(height, multiplier, frame, basis)
        if proof.holds:
            assert least <= proof.bound <= height * (1 + 1e-4)
        if seen == 80 and abs(height - top) > 1e-3 * top:
            assert proof.holds == (height > top)


def test_its_inverse_is_that_of_what_was_factorised(case):
    """(mu I - A + lambda B + sigma U U')^-1, times mu."""
    space, (locked,) = blocks_of(case, 2, (2,))
    multiplier = 1.5
    u = case.samples(space, locked.w)
    mu = 1.3 * np.linalg.eigvalsh(case.a)[-1]
    solve = space.certify(1.0, mu, multiplier, locked).solve
    raw = space.random(3, torch.Generator().manual_seed(7))
    solved = solve(raw)
    assert case.consistent(space, solved)
    x, y = (case.samples(space, r) for r in (raw, solved))
    whole = mu * np.eye(case.n) - case.a + multiplier * case.b + sigma_of(case, multiplier) * u @ u.T
    assert np.allclose(whole @ y, mu * x, atol=1e-9)


def test_no_bound_under_zero_is_claimed(case):
    """Outside the range of the features both forms are 0."""
    space = case.space()
    for mu in (0.0, -1e-3, float("nan")):
        assert not space.certify(1.0, mu, 100.0, space.empty()).holds
        assert not space.certify(0.0, mu, 1.0, space.empty()).holds
        assert not space.certify_off(mu, 100.0, space.empty(), space.empty()).holds


@pytest.mark.parametrize("seed", range(24))
def test_it_gives_what_dense_and_sample_space_give(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 56))
    d_a, d_b = (int(d) for d in rng.integers(3, n // 2, size=2))
    case = Case(n, d_a, d_b, 100 + seed, repeated=2 * (seed % 5 == 0), shared=3 * (seed % 3 == 0))
    eps = float(10 ** rng.uniform(-3, -0.7))
    exact = solve_dense(case.a, case.b, SolverRequest(EnergyLimit(eps), 4))
    space = case.space(min(4, n - case.rank))
    found = solve_subspace(space, SolverRequest(EnergyLimit(eps), 4, tolerance=1e-10))
    over = solve_subspace(
        SampleSpace(torch.tensor(case.a), torch.tensor(case.b)), SolverRequest(EnergyLimit(eps), 4, tolerance=1e-10)
    )
    assert len(found.directions) == len(over.directions) == len(exact.directions)
    x = case.samples(space, torch.tensor(np.stack([d.x for d in found.directions], 1)))
    # rounding of w'Gw, which long coordinates (small eigenvalues of G) amplify
    longest = max(float(np.square(d.x[: space.width]).sum()) for d in found.directions)
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-9 + 2**-53 * longest * float(space.g.norm())
    scale = exact.directions[0].target_energy
    for column, d, e, f in zip(x.T, found.directions, over.directions, exact.directions, strict=True):
        assert d.gap <= 1e-6
        assert column @ case.b @ column <= eps + 1e-10
        assert column @ case.a @ column == pytest.approx(d.target_energy, abs=1e-9 * scale)
        assert d.target_energy == pytest.approx(f.target_energy, rel=1e-8, abs=1e-9 * scale)
        assert e.target_energy == pytest.approx(f.target_energy, rel=1e-8, abs=1e-9 * scale)


def covariance_of(n, d_a, d_b, seed, flat=False, apart=0.0):
    """Return (phi, G) of features with a flat spectrum, or of two models' that are nearly the same."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, d)) for d in (d_a, d_b)]
    if flat:
        parts = [np.linalg.qr(part)[0] + 1e-6 * rng.normal(size=part.shape) for part in parts]
    if apart:
        m = min(d_a, d_b)
        parts[1][:, :m] = parts[0][:, :m] + apart * rng.normal(size=(n, m))
    phi = np.concatenate([part / np.linalg.norm(part) for part in parts], axis=1) * n**0.5
    return phi, torch.tensor(phi.T @ phi / n)


@pytest.mark.parametrize(("n", "d_a", "d_b"), [(29, 1, 11), (60, 12, 25), (69, 1, 33)])
def test_where_residuals_are_nearly_parallel_the_basis_stays_orthonormal(n, d_a, d_b):
    for seed in range(6):
        phi, g = covariance_of(n, d_a, d_b, seed, flat=True)
        a, b = (part @ part.T / n for part in (phi[:, :d_a], phi[:, d_a:]))
        eps = 0.3 * np.linalg.eigvalsh(b)[-1]
        space = FeatureSpace(g, d_a, min(4, n - d_a - d_b))
        found = solve_subspace(space, SolverRequest(EnergyLimit(eps), 4, tolerance=1e-6))
        exact = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 4))
        for d, e in zip(found.directions[:1], exact.directions[:1], strict=True):
            x = phi @ d.x[: space.width] / n**0.5
            assert x @ x + np.square(d.x[space.width :]).sum() == pytest.approx(1, abs=1e-7)
            assert x @ b @ x <= eps * (1 + 1e-7)
            assert d.target_energy == pytest.approx(e.target_energy, rel=1e-7)


def test_a_gap_next_to_the_null_space_is_not_claimed_away():
    """What lies so near the null space of G is left out; the proof must still hold for it."""
    for seed in range(24):
        n = 20 + seed
        phi, g = covariance_of(n, 3, 6, seed, apart=1e-5)
        a, b = (part @ part.T / n for part in (phi[:, :3], phi[:, 3:]))
        eps = float(10 ** np.random.default_rng(seed).uniform(-5, -1)) * np.linalg.eigvalsh(b)[-1]
        best = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 1)).directions[0].target_energy
        (first,) = solve_subspace(FeatureSpace(g, 3, 1), SolverRequest(EnergyLimit(eps), 1, tolerance=1e-8)).directions
        assert first.target_energy * (1 + first.gap) >= best * (1 - 1e-7)


@pytest.mark.parametrize("eta", [0.5, 1.0, 3.0])
def test_with_a_fixed_multiplier_it_gives_the_leading_eigenvectors(case, eta):
    values, vectors = np.linalg.eigh(case.a - eta * case.b)
    count = min(3, int((values > 1e-9).sum()))
    found = solve_subspace(case.space(), SolverRequest(FixedWeight(eta), count, tolerance=1e-10))
    assert len(found.directions) == count
    for k, d in enumerate(found.directions, start=1):
        x = case.samples(case.space(), torch.tensor(d.x[:, None]))[:, 0]
        assert abs(x @ vectors[:, -k]) == pytest.approx(1, abs=1e-6)
        assert d.target_energy - eta * d.reference_energy == pytest.approx(values[-k], rel=1e-8)
        assert d.gap <= 1e-6
