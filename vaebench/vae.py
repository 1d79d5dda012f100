"""The variational autoencoder: encoder, decoder and likelihood; the prior is N(0, I)."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaebench.distributions import DiagonalGaussian, standard_normal_log_prob
from vaebench.likelihoods import Fitted, ImportanceFitted, Likelihood, Started
from vaebench.models import Encoder, Networks, Shape


class Posterior(nn.Module):
    """q(z|x) of an encoder of any class, which returns (mean, log_var) or a DiagonalGaussian."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> DiagonalGaussian:
        """Map images (B, C, H, W) to their posterior, ``mean`` and ``log_var`` of shape (B, Z).

        Raises:
            TypeError: The encoder returns something else.
        """
        made = self.network(x)
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise TypeError(
                f"an encoder returns (mean, log_var) or a DiagonalGaussian, not "
                f"{type(made).__name__}"
            )
        mean, log_var = made
        # reduced precision ends with the networks
        return DiagonalGaussian.bounded(mean.to(x.dtype), log_var.to(x.dtype))


class VAE(nn.Module):
    """A latent-variable model of images and its approximate posterior.

    Attributes:
        encoder: Images (B, C, H, W) to a :class:`~vaebench.distributions.DiagonalGaussian`.
        decoder: Codes (B, Z) to likelihood parameters (B, maps * C, H, W).
        likelihood: p(x|z), with ``log_prob(x, params)`` and ``mean(params)``.
        latent_dim: Z.

    References:
        Kingma & Welling (2014), https://arxiv.org/abs/1312.6114
    """

    encoder: Encoder | Posterior

    def __init__(self, networks: Networks, likelihood: Likelihood, latent_dim: int) -> None:
        super().__init__()
        encoder = networks.encoder
        # a class of somebody's own, one derived from ours too, may return what it likes
        self.encoder = encoder if type(encoder) is Encoder else Posterior(encoder)
        self.decoder = networks.decoder  # after the encoder: optimisers number the parameters so
        self.likelihood = likelihood
        self.latent_dim = latent_dim

    def decode(self, z: Tensor) -> Tensor:
        """Mean images of codes: (..., Z) to (..., C, H, W), in the data's units."""
        images = self.likelihood.mean(self.decoder(z.flatten(0, -2)))
        return images.reshape(*z.shape[:-1], *images.shape[1:])

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (B, C, H, W) from the posterior mean, clipped to [0, 1]."""
        return self.decode(self.encoder(x).mean).clamp(0.0, 1.0)


def start_likelihood(vae: VAE, x: Tensor, batch_size: int = 500) -> None:
    """Start the likelihood, if it is one that starts from data, before the first epoch.

    Its variance is summed on the CPU in float64: the same on every device.

    Arguments:
        vae: The model; its likelihood is changed in place.
        x: Training images (N, C, H, W), as they are measured.
        batch_size: Images at a time.
    """
    if not isinstance(vae.likelihood, Started):
        return
    sums, squares = torch.zeros(2, *x.shape[1:], dtype=torch.float64)
    for images in torch.split(x, batch_size):
        pixels = images.cpu().double()
        sums += pixels.sum(dim=0)
        squares += pixels.square().sum(dim=0)
    variance = squares / len(x) - (sums / len(x)).square()
    vae.likelihood.start(variance.mean().item())


def fit_likelihood(
    vae: VAE, x: Tensor, noise: Tensor, batch_size: int = 500, *, importance_weighted: bool = False
) -> None:
    """Fit what the likelihood fits to the training split (nothing, for most) at final weights.

    Arguments:
        vae: The model; its likelihood is changed in place.
        x: Training images (N, C, H, W), on the model's device.
        noise: Standard normal draws (L, N, Z): the codes are sampled, as in the bound.
        batch_size: Images at a time.
        importance_weighted: Fit to the bound of L importance weights, not to the ELBO.
    """
    vae.eval()
    batches = zip(torch.split(x, batch_size), torch.split(noise, batch_size, 1), strict=True)
    with torch.no_grad():
        if importance_weighted and isinstance(vae.likelihood, ImportanceFitted):
            vae.likelihood.importance_fit(_decoded(vae, *batch) for batch in batches)
        elif isinstance(vae.likelihood, Fitted):
            vae.likelihood.fit(_decoded(vae, *batch)[:2] for batch in batches)


def _decoded(vae: VAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images, repeated L times, what their sampled codes decode to, and log q/p (L, B)."""
    q = vae.encoder(x)
    z = q.sample(noise.to(x.device))
    log_ratio = q.log_prob(z) - standard_normal_log_prob(z)
    return x.expand(len(z), *x.shape).flatten(0, 1), vae.decoder(z.flatten(0, 1)), log_ratio


def parameter_count(vae: VAE) -> int:
    """Number of trainable parameters of encoder and decoder."""
    return sum(p.numel() for p in vae.parameters() if p.requires_grad)


def flops_per_image(vae: VAE, shape: Shape) -> int:
    """Floating-point operations of one forward pass through encoder and decoder.

    Counts matrix products and convolutions, two operations per multiply-add, for one image of
    ``shape`` (C, H, W). ``vae`` may live on any device, ``meta`` included.
    """
    try:
        like = copy.deepcopy(vae).to("meta")  # where every product is PyTorch's own, and counted
        return _count_flops(like.eval(), shape)
    except Exception:  # a plugin's code may need numbers: then it is counted where it is
        if next(vae.parameters()).is_meta:
            raise
        training = vae.training
        try:
            return _count_flops(vae.eval(), shape)
        finally:
            vae.train(training)


def _count_flops(vae: VAE, shape: Shape) -> int:
    first = next(vae.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vae.decode(vae.encoder(torch.zeros(1, *shape, device=first.device, dtype=first.dtype)).mean)
    return int(counter.get_total_flops())
