"""Least squares and roots of covariances."""

from __future__ import annotations

import ast
from pathlib import Path

import torch

import impasto
from impasto.linalg import compose, principal, ridge, root, widened


def covariance(channels: int, rank: int) -> torch.Tensor:
    x = torch.randn(channels, rank, generator=torch.Generator().manual_seed(0)).double()
    return x @ x.T / rank


def test_a_root_of_any_covariance():
    for matrix in (covariance(6, 20), covariance(6, 2), torch.zeros(6, 6).double()):
        half = root(matrix)
        assert torch.allclose(half @ half, matrix, atol=1e-12)
        assert torch.equal(half.isfinite(), torch.ones(6, 6).bool())
    assert root(torch.stack([covariance(3, 9)] * 2)).shape == (2, 3, 3)


def test_a_root_takes_what_rounding_did():
    askew = covariance(6, 2)
    askew[0, 1] += 1e-13
    assert torch.allclose(root(askew - 1e-13 * torch.eye(6)), root(covariance(6, 2)), atol=1e-6)


def test_eigenvalues_and_principal_directions():
    matrix = covariance(5, 9)
    values, vectors = torch.linalg.eigh(matrix)
    assert torch.allclose(compose(values, vectors), matrix)
    two = principal(matrix.float(), 2)
    assert two.dtype == torch.float64
    assert torch.allclose((two.T @ matrix @ two).diagonal(), values[-2:])


def test_a_regression_and_what_its_penalty_is_for():
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 4, generator=rng)
    weight, bias = torch.randn(3, 4, generator=rng), torch.tensor([1.0, -2.0, 5.0])
    answers = rows @ weight.T + bias
    found, shift = ridge(rows, answers, 1e-9)
    assert torch.allclose(found, weight, atol=1e-4)
    assert torch.allclose(shift, bias, atol=1e-4)
    twice = torch.cat([rows, rows], 1)  # which depend on each other
    found, shift = ridge(twice, answers)
    assert torch.allclose(found[:, :4], found[:, 4:], atol=1e-4)
    assert (twice @ found.T + shift - answers).square().mean() < 1e-4 * answers.var()
    scaled, _ = ridge(1e3 * rows, answers)
    assert torch.allclose(1e3 * scaled, ridge(rows, answers)[0], atol=1e-4)


def test_float64_without_asking_a_device_that_has_none():
    assert widened(torch.ones(2)).dtype == torch.float64


def test_no_other_module_has_a_root_or_a_regression_of_its_own():
    """By the calls that these are made of; `transport` and `regress` use eigenvalues themselves."""
    users = {"eigh": {"linalg", "transport", "regress"}, "solve": {"linalg"}, "lstsq": set()}
    for path in Path(impasto.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in users:
                assert path.stem in users[node.attr], path
