"""The variational autoencoder: encoder, decoder and likelihood; the prior is N(0, I)."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaebench.likelihoods import Fitted, Likelihood
from vaebench.models import Encoder, Networks, Shape


class VAE(nn.Module):
    """A latent-variable model of images and its approximate posterior.

    Attributes:
        encoder: Images (B, C, H, W) to a :class:`~vaebench.distributions.DiagonalGaussian`.
        decoder: Codes (B, Z) to likelihood parameters (B, C, H, W).
        likelihood: p(x|z), with ``log_prob(x, params)`` and ``mean(params)``.
        latent_dim: Z.

    References:
        Kingma & Welling (2014), https://arxiv.org/abs/1312.6114
    """

    encoder: Encoder

    def __init__(self, networks: Networks, likelihood: Likelihood, latent_dim: int) -> None:
        super().__init__()
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.likelihood = likelihood
        self.latent_dim = latent_dim

    def decode(self, z: Tensor) -> Tensor:
        """Mean images of codes: (..., Z) to (..., C, H, W), in the data's units."""
        images = self.likelihood.mean(self.decoder(z.flatten(0, -2)))
        return images.reshape(*z.shape[:-1], *images.shape[1:])

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (B, C, H, W) from the posterior mean, clipped to [0, 1]."""
        return self.decode(self.encoder(x).mean).clamp(0.0, 1.0)


def fit_likelihood(vae: VAE, x: Tensor, noise: Tensor, batch_size: int = 500) -> None:
    """Fit what the likelihood fits to the training split (nothing, for most) at final weights.

    Arguments:
        vae: The model; its likelihood is changed in place.
        x: Training images (N, C, H, W), on the model's device.
        noise: Standard normal draws (1, N, Z): the codes are sampled, as in the bound.
        batch_size: Images at a time.
    """
    if not isinstance(vae.likelihood, Fitted):
        return
    vae.eval()
    with torch.no_grad():
        vae.likelihood.fit(
            (images, vae.decoder(vae.encoder(images).sample(draws.to(x.device)).flatten(0, 1)))
            for images, draws in zip(
                torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True
            )
        )


def parameter_count(vae: VAE) -> int:
    """Number of trainable parameters of encoder and decoder."""
    return sum(p.numel() for p in vae.parameters() if p.requires_grad)


def flops_per_image(vae: VAE, shape: Shape) -> int:
    """Floating-point operations of one forward pass through encoder and decoder.

    Counts matrix products and convolutions, two operations per multiply-add, for one image of
    ``shape`` (C, H, W). ``vae`` may live on any device, ``meta`` included.
    """
    like = copy.deepcopy(vae).to("meta").eval()  # where every product is PyTorch's own, and counted
    dtype = next(like.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        like.decode(like.encoder(torch.empty(1, *shape, device="meta", dtype=dtype)).mean)
    return int(counter.get_total_flops())
