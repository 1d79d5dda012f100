"""What the prior generates, against the test images, in the features of a small classifier.

Not "FID", "precision" of Inception features: features of a network that learned these very digits
(see ``classifier``). Values compare within one data set.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of Kynkäänniemi et al.
_ROWS = 128  # of a matrix of distances, at a time: 10 MB for 10,000 points


class Generation(NamedTuple):
    """Features of generated and of real images, float64 on the CPU.

    Attributes:
        generated: (M, F).
        real: (N, F).
        radii: What :func:`squared_radii` says of all real images, (N,); None where that is to be
            computed.
    """

    generated: Tensor
    real: Tensor
    radii: Tensor | None = None


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
    radii = g.radii if len(real) == len(g.real) else None  # those of fewer points are others
    return _share_within(generated, real, squared_radii(real) if radii is None else radii)


def recall(g: Generation) -> float:
    """Share of test images that lie within the manifold of the generated images (k = 3).

    Arguments and source as :func:`precision`.
    """
    generated, real = _equally_many(g)
    return _share_within(real, generated, squared_radii(generated))


def squared_radii(points: Tensor) -> Tensor:
    """Squared distance of every point (N, F) to the k-th nearest of the others, (N,)."""
    return torch.cat(
        [
            # k + 1: a point is its own nearest
            distances.topk(NEIGHBOURS + 1, largest=False).values[:, -1]
            for distances in _squared_distances(points, points)
        ]
    )


def _equally_many(g: Generation) -> tuple[Tensor, Tensor]:
    count = min(len(g.generated), len(g.real))
    return g.generated[:count], g.real[:count]


def _share_within(points: Tensor, manifold: Tensor, radii: Tensor) -> float:
    """Share of points that lie within the radius of some point of the manifold."""
    inside = [
        beyond.amin(dim=1) <= 0 for beyond in _squared_distances(points, manifold, less=radii)
    ]
    return torch.cat(inside).double().mean().item()


def _squared_distances(a: Tensor, b: Tensor, less: Tensor | None = None) -> Iterator[Tensor]:
    """Squared Euclidean distances (A, B), ``less`` (B,), some rows at a time.

    The next rows overwrite the memory of the last. One product makes them, norms and all: a pass
    over such a matrix costs as much. In float64, where the difference loses nothing.
    """
    ones = a.new_ones(max(len(a), len(b)), 1)
    of_a, of_b = (t.square().sum(dim=1, keepdim=True) for t in (a, b))
    if less is not None:
        of_b -= less.unsqueeze(1)
    left = torch.cat([-2 * a, of_a, ones[: len(a)]], dim=1)
    right = torch.cat([b, ones[: len(b)], of_b], dim=1).T.contiguous()
    buffer = left.new_empty(min(_ROWS, len(a)), len(b))
    for rows in torch.split(left, _ROWS):
        yield torch.mm(rows, right, out=buffer[: len(rows)])
