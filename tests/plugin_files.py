"""Plugins for tests: written into a folder, loaded, and forgotten again when the test ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

from vaebench.config.run import TRAINED_WITH
from vaebench.declarations import COSTS
from vaebench.figures import FIGURES
from vaebench.metrics import METRICS
from vaebench.plugins.registry import KNOWN

REGISTRIES: list[Any] = [*TRAINED_WITH.values(), METRICS, COSTS, FIGURES]

MODEL = """
    from torch import nn

    from vaebench import MODELS
    from vaebench.models import Encoder, Networks


    def {name}(shape, latent_dim, *, width: int = 6):
        pixels = shape[0] * shape[1] * shape[2]
        body = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Tanh())
        decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(-1, shape))
        return Networks(Encoder(body, width, latent_dim), decoder)


    MODELS["{name}"] = {name}
"""


def write(path: Path, text: str) -> Path:
    """Write a plugin's source."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def model_file(folder: Path, name: str = "mine", file: str = "my_vae.py") -> Path:
    """Write a plugin that enters a small model."""
    return write(folder / file, MODEL.replace("{name}", name))


@contextmanager
def forgotten() -> Iterator[None]:
    """Undo what is loaded and entered meanwhile."""
    entries = [(registry, dict(registry)) for registry in REGISTRIES]
    known, path, modules = dict(KNOWN), list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        for registry, before in entries:
            for name in [name for name in registry if name not in before]:
                del registry[name]
        KNOWN.clear()
        KNOWN.update(known)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith("plugin_") or getattr(sys.modules[name], "_of_a_test", False):
                del sys.modules[name]
