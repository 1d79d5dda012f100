"""What the numbers are, in a sentence each: the hints of the page.

To explain a new number, add it to :data:`DEFINITIONS` by its name behind the slash.
"""

DEFINITIONS = {
    "elbo": "Evidence lower bound: minus rate minus distortion, a lower bound of log p(x).",
    "rate": "KL divergence from the prior to the posterior q(z|x): the information in the code.",
    "distortion": "Minus the expected log p(x|z) under the posterior: what the code does not tell.",
    "bits_per_dim": "Minus the ELBO in bits, divided by the number of pixels and channels.",
    "log_px": "Importance-sampled estimate of log p(x), tighter than the ELBO.",
    "ssim": "Structural similarity of a test image and its reconstruction; 1 is equal.",
    "psnr": "Peak signal-to-noise ratio of the reconstruction: 10 log10(1 / mean squared error).",
    "mse_px": "Mean squared error of a pixel between a test image and its reconstruction.",
    "mae_px": "Mean absolute error of a pixel between a test image and its reconstruction.",
    "active_units": "Latent dimensions whose posterior mean varies over the test images.",
    "knn_accuracy": "Accuracy of five nearest neighbours on the posterior means of test images.",
    "classifier_frechet": "Fréchet distance between features of test images and of samples, the "
    "features being those of a small classifier of this data set.",
    "precision": "Share of samples that lie near a test image in the classifier's features.",
    "recall": "Share of test images that lie near a sample in the classifier's features.",
    "images_per_second": "Training images per second, over the epochs.",
    "seconds_per_epoch": "Time of a training epoch by the clock.",
    "cpu_seconds_per_epoch": "Processor time of a training epoch, over all threads.",
    "peak_memory_mb": "Largest memory of the run's process (of the device, where it has its own).",
    "parameters": "Trained numbers of encoder, decoder and likelihood.",
    "flops_per_image": "Floating-point operations of one image through encoder and decoder.",
    "learning_rate": "The optimizer's step size in this epoch.",
    "beta": "Weight of the rate in the loss of this epoch.",
    "seconds": "Time by the clock that the epoch took.",
    "cpu_seconds": "Processor time that the epoch took.",
}
# title, unit, and how far it compares, of what only journals hold
JOURNAL = {
    "learning_rate": ("Learning rate", "", "dataset"),
    "beta": ("Beta", "", "dataset"),
    "seconds": ("Seconds", "s", "machine"),
    "cpu_seconds": ("CPU seconds", "s", "machine"),
}
COMPARABLE = {
    "likelihood": "Compares only within one loss, its options and its data.",
    "dataset": "Compares between all cells of one data set.",
    "machine": "Compares only on one machine under one load.",
}
DIRECTION = {"higher": "Higher is better.", "lower": "Lower is better."}
_SPLIT = {
    "train_eval": "On a fixed part of the training images, after training.",
    "train": "Mean over the training epoch.",
    "val": "On the validation images, after the epoch.",
}


def definition(metric: str) -> str:
    """A sentence or two about a metric, ``test/elbo``; empty where there is nothing to say."""
    split, _, name = metric.partition("/")
    return " ".join(filter(None, [DEFINITIONS.get(name, ""), _SPLIT.get(split, "")]))


def hint(metric: str, unit: str, direction: str | None, comparable: str) -> str:
    """All that a reader needs to know of a column of numbers."""
    return " ".join(
        filter(
            None,
            [
                definition(metric),
                f"In {'nats per image' if unit == 'nats' else unit}." if unit else "",
                DIRECTION.get(direction or "", "Neither higher nor lower is better as such."),
                COMPARABLE.get(comparable, ""),
            ],
        )
    )
