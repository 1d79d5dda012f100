"""What the prior generates, against the test images, in the features of a small classifier.

Not "FID", "precision" of Inception features: features of a network that learned these very digits
(see ``classifier``). Values compare within one data set.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of Kynkäänniemi et al.
_ROWS = 500  # of a matrix of distances, at a time, which bounds the memory


class Generation(NamedTuple):
    """Features of generated and of real images, (M, F) and (N, F), float64 on the CPU."""

    generated: Tensor
    real: Tensor


def classifier_frechet(g: Generation) -> float:
    r"""Fréchet distance between Gaussians fitted to the features of generated and test images.

    .. math:: \|\mu_g - \mu_r\|^2 + \mathrm{tr}(C_g + C_r - 2 (C_g^{1/2} C_r C_g^{1/2})^{1/2})

    Features are those of a small classifier of this data set, not of Inception: this is no FID.

    References:
        Dowson & Landau (1982), https://doi.org/10.1016/0047-259X(82)90077-X
    """
    shift = (g.generated.mean(dim=0) - g.real.mean(dim=0)).square().sum()
    generated, real = torch.cov(g.generated.T), torch.cov(g.real.T)
    # the eigenvalues of C_g^{1/2} C_r C_g^{1/2} are symmetric positive: no complex square roots
    values, vectors = torch.linalg.eigh(generated)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ real @ root).clamp(min=0).sqrt().sum()
    distance: float = (shift + generated.trace() + real.trace() - 2 * overlap).item()
    return distance


def precision(g: Generation) -> float:
    """Share of generated images that lie within the manifold of the test images (k = 3).

    As many generated as test images are taken, as in the paper.

    References:
        Kynkäänniemi et al. (2019), equation 2, https://arxiv.org/abs/1904.06991
    """
    generated, real = _equally_many(g)
    return _share_within(generated, real)


def recall(g: Generation) -> float:
    """Share of test images that lie within the manifold of the generated images (k = 3).

    Arguments and source as :func:`precision`.
    """
    generated, real = _equally_many(g)
    return _share_within(real, generated)


def _equally_many(g: Generation) -> tuple[Tensor, Tensor]:
    count = min(len(g.generated), len(g.real))
    return g.generated[:count], g.real[:count]


def _share_within(points: Tensor, manifold: Tensor) -> float:
    """Share of points no farther from some point of the manifold than its k-th neighbour there."""
    radii = torch.cat(
        [
            # k + 1: a point is its own nearest
            _squared_distances(rows, manifold).topk(NEIGHBOURS + 1, largest=False).values[:, -1]
            for rows in torch.split(manifold, _ROWS)
        ]
    )
    inside = [
        (_squared_distances(rows, manifold) <= radii).any(dim=1)
        for rows in torch.split(points, _ROWS)
    ]
    return torch.cat(inside).double().mean().item()


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (A, B). In float64, where the difference loses nothing."""
    return torch.addmm(a.square().sum(1, keepdim=True) + b.square().sum(1), a, b.T, alpha=-2)
