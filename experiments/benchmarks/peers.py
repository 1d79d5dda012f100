"""What people would use instead: the same layers, batch, optimiser and images in other loops.

Each is written as its own documentation would have it, with nothing switched on that it does not
need here (no logging, no checkpoints, no progress bar). Lightning and pythae are extras
(``pip install '.[bench]'``) and are imported only here.
"""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from experiments.benchmarks.work import FOREVER, Laps, Work
from vaebench import models
from vaebench.vae import VAE

# contenders that are other people's loops, and the module that each needs besides PyTorch
PEERS: dict[str, str | None] = {"plain loop": None, "Lightning": "lightning", "pythae": "pythae"}


def loss_of(vae: VAE, x: Tensor, loss: str) -> Tensor:
    """The negative bound as tutorials write it: summed over pixels, averaged over the batch."""
    q = vae.encoder(x)
    z = q.mean + (0.5 * q.log_var).exp() * torch.randn_like(q.mean)
    reconstruction = torch.sigmoid(vae.decoder(z))
    if loss == "bce":
        distortion = F.binary_cross_entropy(reconstruction, x, reduction="sum")
    else:
        distortion = F.mse_loss(reconstruction, x, reduction="sum")
    rate = -0.5 * torch.sum(1 + q.log_var - q.mean.pow(2) - q.log_var.exp())
    return (distortion + rate) / len(x)


class _Pictures(Dataset[Tensor]):
    """Images as torchvision's MNIST keeps them, turned into tensors one by one."""

    def __init__(self, x: Tensor) -> None:
        from torchvision.transforms import ToTensor

        self.images = (x.squeeze(1) * 255).round().byte().numpy()
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image

        picture: Tensor = self.transform(Image.fromarray(self.images[index]))
        return picture


def plain_loop(work: Work, laps: Laps) -> None:
    """A DataLoader with ToTensor, Adam, and the loss of every step added up with ``.item()``."""
    vae, training = work.vae(), work.run.training
    loader = DataLoader(_Pictures(work.images), batch_size=training.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(vae.parameters(), lr=training.learning_rate)
    vae.train()
    while True:
        laps.begin()
        total = 0.0
        for x in loader:
            optimizer.zero_grad()
            loss = loss_of(vae, x, work.run.loss.name)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()
        laps.end()


def lightning(work: Work, laps: Laps) -> None:
    """Lightning's Trainer over a DataLoader of tensors in memory."""
    from lightning.pytorch import Callback, LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    training = work.run.training

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.vae = work.vae()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return loss_of(self.vae, batch[0], work.run.loss.name)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=training.learning_rate)

    class Turns(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            laps.begin()

        def on_train_epoch_end(self, *_: Any) -> None:
            laps.end()

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=FOREVER,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Turns()],
            default_root_dir=folder,
        )
        dataset = TensorDataset(work.images)
        trainer.fit(Module(), DataLoader(dataset, batch_size=training.batch_size, shuffle=True))


def pythae(work: Work, laps: Laps) -> None:
    """pythae's own VAE and trainer with our layers, its defaults for all that we do not compare."""
    from pythae.trainers.training_callbacks import TrainingCallback

    class Turns(TrainingCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            laps.begin()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            laps.end()

    pythae_training(work, None, FOREVER, [Turns()])


def pythae_training(
    work: Work, validation: Tensor | None, epochs: int, callbacks: list[Any] | None = None
) -> None:
    """Train one model with pythae from beginning to end."""
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self, vae: VAE) -> None:
            super().__init__()
            assert isinstance(vae.encoder, models.Encoder)
            features = vae.encoder.head.in_features
            self.body = vae.encoder.body
            self.mean = nn.Linear(features, vae.latent_dim)
            self.log_var = nn.Linear(features, vae.latent_dim)

        def forward(self, x: Tensor) -> Any:
            h = self.body(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self, vae: VAE) -> None:
            super().__init__()
            self.body = vae.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.body(z)))

    vae, training = work.vae(), work.run.training
    config = VAEConfig(
        input_dim=work.shape,
        latent_dim=vae.latent_dim,
        reconstruction_loss=work.run.loss.name,
    )
    model = PythaeVAE(config, encoder=Encoder(vae), decoder=Decoder(vae))
    with tempfile.TemporaryDirectory() as folder, _silence():
        trainer_config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=training.batch_size,
            per_device_eval_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            no_cuda=True,
        )
        pipeline = TrainingPipeline(model=model, training_config=trainer_config)
        pipeline(train_data=work.images, eval_data=validation, callbacks=callbacks)


@contextmanager
def _silence() -> Iterator[None]:
    """Discard what pythae prints of its progress, an animated bar included."""
    logging.disable(logging.INFO)
    with Path("/dev/null").open("w") as nowhere, redirect_stderr(nowhere):
        stdout, sys.stdout = sys.stdout, nowhere
        try:
            yield
        finally:
            sys.stdout = stdout
            logging.disable(logging.NOTSET)


def main() -> None:
    """Train every work of standard input with pythae, from beginning to end."""
    for line in sys.stdin.buffer.read().splitlines():
        work = Work.from_line(line)
        pythae_training(work, work.splits.validation.x, work.run.training.epochs)


if __name__ == "__main__":
    main()
