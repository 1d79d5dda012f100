"""What is measured: a trained model and its splits; each pass is made once, when a metric asks.

A metric is a function of one part of a :class:`Subject`. To offer metrics something new, add a
cached property here and its name to :data:`Part`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.datasets import Split
from vaebench.datasets.pixels import quantized
from vaebench.metrics.classifier import Reference
from vaebench.metrics.evaluation import Evaluation, evaluate
from vaebench.metrics.generation import Generation
from vaebench.metrics.images import ssim_per_image
from vaebench.metrics.latents import Latents, posterior_means
from vaebench.metrics.log_px import Evidence, importance_weighted_bound
from vaebench.seeding import stream
from vaebench.vae import VAE

EVALUATION_DRAWS = 16
GENERATED = 10_000  # samples from the prior

Part = Literal["evaluation", "similarity", "evidence", "latents", "generation"]


@dataclass(frozen=True)
class Subject:
    """A trained model, the images it is measured on, and the seed of the noise.

    All noise is drawn on the CPU, from streams that do not know the cell: cells are compared on
    the same draws.

    Attributes:
        vae: The model, with the weights that are measured.
        images: The split that is measured; its images on the model's device.
        training: The training split, likewise.
        seed: The run's seed.
        reference: Gives the data set's classifier; called only if something generated is measured.
        samples: K of ``log_px``; None where it is not measured.
        draws: Of the noise, for each image of the evaluation.
        dequantized: The images are; the reconstructions are compared with the 8-bit ones.
        noise: Name of the stream of the evaluation's noise.
        batch_size: Images at a time; it does not change a number beyond float rounding.
    """

    vae: VAE
    images: Split
    training: Split
    seed: int
    reference: Callable[[], Reference]
    samples: int | None = None
    draws: int = EVALUATION_DRAWS
    dequantized: bool = False
    noise: str = "evaluation"
    batch_size: int = 500

    @cached_property
    def evaluation(self) -> Evaluation:
        """The bound, its terms and reconstructions, image by image."""
        shape = (self.draws, len(self.images.x), self.vae.latent_dim)
        noise = torch.randn(shape, generator=stream(self.seed, self.noise))
        measured = evaluate(self.vae, self.images.x, noise, self.batch_size)
        return measured._replace(x=quantized(measured.x)) if self.dequantized else measured

    @cached_property
    def similarity(self) -> NDArray[np.float64]:
        """SSIM of each image and its clipped mean reconstruction, (N,)."""
        return ssim_per_image(self.evaluation.x, self.evaluation.reconstruction)

    @cached_property
    def evidence(self) -> Evidence:
        """The importance-weighted bound with K samples, and how far to trust it."""
        if self.samples is None:
            raise ValueError("log_px needs its number of samples K")
        return importance_weighted_bound(
            self.vae,
            self.images.x,
            seed=self.seed,
            samples=self.samples,
            batch_size=self.batch_size,
        )

    @cached_property
    def latents(self) -> Latents:
        """Posterior means of the measured and of all training images."""
        train = posterior_means(self.vae, self.training.x, self.batch_size)
        return Latents(train, self.training.y, self.evaluation.mean, self.images.y)

    @cached_property
    def generation(self) -> Generation:
        """Features of decoder means of 10,000 prior samples, and of the gray test images."""
        reference = self.reference()
        prior = torch.randn(
            GENERATED, self.vae.latent_dim, generator=stream(self.seed, "generation")
        )
        self.vae.eval()
        with torch.no_grad():
            generated = [
                reference.features_of(self.vae.decode(z.to(self.images.x)).clamp(0.0, 1.0))
                for z in torch.split(prior, self.batch_size)
            ]
        return Generation(
            torch.cat(generated).double(), reference.features.double(), reference.radii
        )
