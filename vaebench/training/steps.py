"""How a training step computes the bound: as it is written, in reduced precision, or compiled.

What is measured (validation, metrics) is computed as it is written, in float32, whatever the steps
did. Both options move the last bits or more, so they belong to a run's configuration.
"""

from typing import Literal

import torch
from torch import Tensor

from vaebench.errors import ConfigError
from vaebench.estimators import Estimate, EstimateFunction
from vaebench.vae import VAE

Precision = Literal["float32", "bfloat16"]


def step_function(
    estimator: EstimateFunction, device: torch.device, precision: Precision, *, compiled: bool
) -> EstimateFunction:
    """Wrap an estimator as the configuration asks; with the defaults it is returned as it is.

    Arguments:
        estimator: ``(vae, x, noise) -> Estimate``.
        device: Where it computes.
        precision: ``bfloat16`` makes matrix products and convolutions from operands rounded to
            bfloat16 (8 bits of significand); weights, gradients, the likelihood, the rate and the
            optimiser stay in float32.
        compiled: Compile it with TorchInductor; on CUDA its graphs are captured, too.
    """
    if precision == "bfloat16":
        estimator = _in_bfloat16(estimator, device)
    return _compiled(estimator, device) if compiled else estimator


def _in_bfloat16(estimator: EstimateFunction, device: torch.device) -> EstimateFunction:
    def estimate(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        with torch.autocast(device.type, torch.bfloat16):
            return estimator(vae, x, noise)

    return estimate


def _compiled(estimator: EstimateFunction, device: torch.device) -> EstimateFunction:
    # a worker's earlier runs count towards the limit beyond which a function is not compiled
    torch.compiler.reset()
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    compiled = torch.compile(estimator, dynamic=False, mode=mode)

    def estimate(vae: VAE, x: Tensor, noise: Tensor) -> Estimate:
        try:
            return compiled(vae, x, noise)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().splitlines()[0]
            raise ConfigError(
                f"training.compile: the step cannot be compiled here ({reason}); "
                f"install a C++ compiler, or leave it false"
            ) from error

    return estimate
