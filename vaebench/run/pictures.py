"""What a run shows: tiles while it trains, arrays after it, and the figures made from them.

The arrays are kept (``arrays.npz``), so that figures can be drawn, and images ranked, without the
model. Draws from the prior are those of one stream, whatever the seed: tiles and samples of two
runs with equally many latent dimensions show the same codes.
"""

import io
import itertools
import math
from typing import Any

import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from vaebench import figures
from vaebench.config import FigureOptions
from vaebench.datasets.splits import NO_LABEL
from vaebench.metrics import Subject, squared_error_per_image
from vaebench.plugins import told
from vaebench.schema.record import OWN_FIGURES as OWN
from vaebench.seeding import stream
from vaebench.storage import RunStore
from vaebench.vae import VAE

SHOWN = 64  # images in a tile, and in the arrays
MAX_ROWS = 8  # of a tile
MIN_SIDE = 240  # pixels of a tile
GAP, GAP_LEVEL = 2, 64  # pixels between images; dark grey parts black ones, and outshines no stroke
SCATTERED = 5000  # test images whose posteriors are kept, and shown in the latent scatter
RANKED = 8  # test images each that are kept as the best, the median and the worst
GRID = 20  # points along a side of the latent manifold
STEPS = 10  # images along an interpolation
ROWS = 6  # interpolations

Arrays = dict[str, NDArray[Any]]


def is_snapshot_epoch(epoch: int) -> bool:
    """Whether tiles are kept after this epoch: 1, 2, 5, 10, 20, 50, ..."""
    return str(epoch).rstrip("0") in {"1", "2", "5"}


def save_snapshot(store: RunStore, vae: VAE, test: Tensor, *, epoch: int) -> None:
    """Write the tiles of test reconstructions and of prior samples after an epoch."""
    vae.eval()
    with torch.no_grad():
        images = test[:SHOWN]
        pictures = {
            "reconstruction": paired_tile(images, vae.reconstruct(images)),
            "samples": tile(vae.decode(_prior(vae, test.device))),
        }
    for key, picture in pictures.items():
        store.write(f"images/{key}-{epoch:04d}.png", picture)


def tile(images: Tensor) -> bytes:
    """PNG of the first n*n images, n at most 8, in n rows, in pixels: the same images, same bytes.

    Small images are enlarged by a whole factor until a row of squares would have 240 pixels. (The
    image slider of the tracking page shows up to 256 pixels without rescaling.)

    Arguments:
        images: Shape (N, C, H, W), C of 1 or 3; clipped to [0, 1].
    """
    # torchvision, which makes such grids too, takes almost as long as PyTorch to import
    from PIL import Image

    n = min(MAX_ROWS, math.isqrt(len(images)))
    factor = math.ceil(MIN_SIDE / (n * (max(images.shape[2:]) + GAP)))
    large = images[: n * n].cpu().clamp(0, 1)
    large = large.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    levels = _framed((255 * large).round().byte(), n, factor * GAP).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels).save(
        buffer, format="PNG", optimize=True
    )
    return buffer.getvalue()


def _framed(images: Tensor, n: int, gap: int) -> Tensor:
    """n rows of n images (N, C, H, W) with gaps around each, (C, H', W'); one alone has none."""
    if n == 1:
        return images[0]
    framed = functional.pad(images, (gap, 0, gap, 0), value=GAP_LEVEL)
    rows = framed.reshape(n, n, *framed.shape[1:]).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)
    return functional.pad(rows, (0, gap, 0, gap), value=GAP_LEVEL)


def paired_tile(originals: Tensor, reconstructions: Tensor) -> bytes:
    """A :func:`tile` whose rows alternate: originals, their reconstructions, originals, ...

    With 32 images or more it has 8 rows, with fewer the largest even number that they fill.

    Arguments:
        originals: Shape (N, C, H, W), N at least 2.
        reconstructions: The same shape.
    """
    n = min(MAX_ROWS, 2 * (math.isqrt(2 * len(originals)) // 2))
    if n == 0:
        raise ValueError("a paired tile needs at least 2 images; got 1")
    shape = (n // 2, n, *originals.shape[1:])
    rows = [x[: n * n // 2].reshape(shape) for x in (originals, reconstructions)]
    return tile(torch.stack(rows, dim=1).flatten(0, 2))


def figure_arrays(subject: Subject, options: FigureOptions) -> Arrays:
    """Collect what the figures need, by name; the shapes are those of the figures' arguments.

    Beside that, of every test image (N,): ``rate`` and ``distortion`` in nats, ``squared_error``
    (mean over pixels) and ``ssim`` of its clipped mean reconstruction; the posterior
    (``latent_mean``, ``latent_log_var``) and the ``labels`` of the first 5,000; and of those
    ``ranked`` by squared error (8 best, 8 about the median, 8 worst), their places in the test
    split, ``ranked_originals`` and ``ranked_reconstructions``. Images without labels have none.
    """
    vae, on_test = subject.vae, subject.evaluation
    device = next(vae.parameters()).device
    vae.eval()

    def decode(z: Tensor) -> NDArray[Any]:
        return _array(vae.decode(z.to(device)))

    squared_error = squared_error_per_image(on_test)
    ranked = _ranked(squared_error)
    mean = on_test.mean[:SCATTERED]
    ends = on_test.mean[: 2 * ROWS].view(-1, 2, mean.shape[1])
    along = torch.linspace(0, 1, STEPS).view(1, STEPS, 1)
    with torch.no_grad():
        arrays = {
            "originals": _array(on_test.x[:SHOWN]),
            "reconstructions": _array(on_test.reconstruction[:SHOWN]),
            "samples": _array(vae.decode(_prior(vae, device))),
            "rate": _array(on_test.rate),
            "distortion": _array(on_test.distortion),
            "squared_error": _array(squared_error),
            "ssim": subject.similarity.astype("float32"),
            "ranked": _array(ranked),
            "ranked_originals": _array(on_test.x[ranked]),
            "ranked_reconstructions": _array(on_test.reconstruction[ranked]),
            "latent_mean": _array(mean),
            "latent_log_var": _array(on_test.log_var[:SCATTERED]),
            "latent_2d": _array(_two_dimensions(mean)),
            "rate_per_dimension": _array(on_test.rate_per_dimension.mean(dim=0)),
            "interpolations": decode(torch.lerp(ends[:, :1], ends[:, 1:], along)),
        }
        if (subject.images.y != NO_LABEL).any():
            arrays["labels"] = _array(subject.images.y[:SCATTERED])
        if vae.latent_dim == 2:
            axis = manifold_axis(options.manifold)
            z2, z1 = torch.meshgrid(axis, axis, indexing="ij")
            z = torch.stack((z1, z2), dim=-1)
            arrays |= {"manifold": decode(z), "manifold_axis": _array(axis)}
        else:
            values = torch.linspace(-3, 3, 11)
            z = torch.eye(vae.latent_dim).unsqueeze(1) * values.view(1, -1, 1)
            arrays |= {"traversals": decode(z), "traversal_values": _array(values)}
    return arrays


def manifold_axis(spacing: str) -> Tensor:
    """Coordinates along one side of the latent manifold, shape (20,).

    ``linear``: from -2 to 2. ``quantiles``: at equal steps of the prior's probability, through
    the inverse normal distribution function (Kingma & Welling 2014, appendix A).
    """
    if spacing == "quantiles":
        quantiles: Tensor = torch.special.ndtri(torch.linspace(0.025, 0.975, GRID))
        return quantiles
    return torch.linspace(-2, 2, GRID)


def draw_own_figures(
    store: RunStore, arrays: Arrays, label: str
) -> tuple[dict[str, str], list[str]]:
    """Draw the figures of plugins, and write them as PNG beside the others.

    What a plugin raises harms no run: the figure is left out.

    Returns:
        Names and titles of what was drawn; a note on each of the others.
    """
    drawn, missed = {}, []
    for name, plot in figures.FIGURES.items():
        if plot.of != "run":
            continue
        try:
            figure = plot.function(dict(arrays), title=f"{label}: {plot.title}")
            content = figures.to_png(figure)
        except Exception as error:
            missed.append(f"The figure {name} was not drawn: {told(error)}.")
            continue
        store.write(f"figures/{OWN}{name}.png", content)
        drawn[name] = plot.title
    return drawn, missed


def draw_figures(
    store: RunStore, arrays: Arrays, label: str, estimator: str, most: int | None = None
) -> None:
    """Draw a run's figures from its arrays and its journal, and write them as PNG.

    ``label`` is the run in their titles, ``estimator`` the one that trained it, ``most`` how many
    of them are drawn, None for all.
    """
    drawn = figures.run_figures(arrays, store.journal, label, estimator)
    for name, figure in itertools.islice(drawn, most):
        store.write(f"figures/{name}.png", figures.to_png(figure))


def _prior(vae: VAE, device: torch.device) -> Tensor:
    """The same draws from N(0, I) after every epoch and for every seed, shape (64, Z)."""
    return torch.randn(SHOWN, vae.latent_dim, generator=stream(0, "figures")).to(device)


def _ranked(error: Tensor) -> Tensor:
    """Places of the smallest, the median and the largest errors, in ascending order, (24,)."""
    order = error.argsort(stable=True)
    count = min(RANKED, len(order))
    middle = (len(order) - count) // 2
    return torch.cat((order[:count], order[middle : middle + count], order[len(order) - count :]))


def _two_dimensions(mean: Tensor) -> Tensor:
    """The codes themselves if Z is 2, else their first two principal components, (N, 2)."""
    if mean.shape[1] == 2:
        return mean
    centred = (mean - mean.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = vectors.flip(1)[:, :2]
    if components.shape[1] < 2:  # Z is 1: nothing to draw on the second axis
        components = torch.nn.functional.pad(components, (0, 1))
    signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
    projected: Tensor = centred @ (components * signs)
    return projected


def _array(tensor: Tensor) -> NDArray[Any]:
    array = tensor.cpu().numpy()
    return array.astype("float32") if array.dtype == "float64" else array
