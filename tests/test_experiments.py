"""The grids in ``experiments/`` say what they claim; the notebook runs on what a grid leaves."""

import base64
import copy
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from torch import nn

from vaebench.config import AXES, Grid, RunConfig, make_grid, read_yaml
from vaebench.files import dump_yaml, write_atomic
from vaebench.grid.manifest import make_manifest
from vaebench.likelihoods import Gaussian
from vaebench.run import Task, build_vae, model_cost, run
from vaebench.storage import run_store
from vaebench.vae import VAE, parameter_count

FOLDER = Path(__file__).parents[1] / "experiments"
ELSEWHERE = ("benchmarks", "cluster", "mlflow", "plugins")
GRIDS = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in ELSEWHERE)
NOTEBOOK = FOLDER / "empirical_eval.ipynb"
MNIST = (1, 28, 28)
CELLS = 8


def read(name: str) -> Grid:
    return make_grid(read_yaml(FOLDER / name), source=name)


def configs(name: str) -> list[RunConfig]:
    return [run.config for run in read(name).runs(name)]


def on_meta(config: RunConfig) -> VAE:
    with torch.device("meta"):
        return build_vae(config.model, config.loss, MNIST)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_grid_is_valid_has_a_question_and_is_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    grid = read(str(path.relative_to(FOLDER)))
    assert grid.name == path.stem
    assert grid.question.endswith("?")
    assert text.startswith("# ")
    assert "two " in text.partition("name:")[0], "the comments do not say what it costs"
    for found in grid.runs(path.name):
        parameters, flops = model_cost(found.config)
        assert parameters > 0
        assert flops > parameters
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`vaebench run-grid experiments/{path.relative_to(FOLDER)}`" in readme


def test_readme_names_no_file_that_is_not_there() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert linked
    assert [name for name in linked if not (FOLDER / name).exists()] == []


def test_demo_is_the_eight_cells_on_the_embedded_digits_with_models_of_one_size() -> None:
    grid = read("demo.yaml")
    assert {axis: list(values) for axis, values in grid.axes.items()} == AXES
    runs = grid.runs("demo.yaml")
    assert len(runs) == CELLS
    assert {found.config.dataset.name for found in runs} == {"digits"}
    sizes = {found.cell["model"]: model_cost(found.config)[0] for found in runs}
    assert sizes["fnn"] == pytest.approx(sizes["cnn"], rel=0.05)


def test_reference_setting_of_the_published_curves() -> None:
    found = [config for config in configs("reproduce/vae-mnist.yaml") if config.seed == 0]
    assert [(c.model.name, c.loss.name, c.estimator.name) for c in found] == [
        ("fnn", "bce", "kl"),
        ("fnn", "mse", "kl"),
        ("cnn", "bce", "kl"),
        ("cnn", "mse", "kl"),
    ]
    for config in found:
        settings = config.to_dict()
        assert settings["estimator"] == {"name": "kl", "samples": 1}
        assert settings["dataset"] == {
            "name": "mnist",
            "binarize": "none",
            "train": None,  # all 60,000, since the test images are the validation split
            "validation": "test",
        }
        assert settings["training"] == {
            "epochs": 61,
            "batch_size": 100,
            "optimizer": {"name": "adam", "adam": {"weight_decay": 0.0}},
            "learning_rate": 1e-3,
            "schedule": {
                "name": "plateau",
                "plateau": {"factor": 0.1, "patience": 5, "min_learning_rate": 5e-5},
            },
            "gradient_clip": None,
            "beta": 1.0,
            "beta_warmup": 0,
            "early_stopping": None,
        }
        if config.loss.name == "mse":
            # the sum of squared errors, less the constant
            assert on_meta(config).likelihood == Gaussian(sigma2=0.5, output="linear")


def layers(module: nn.Module) -> list[str]:
    """Each layer in short: its kind and what decides its shape."""

    def words(layer: nn.Module) -> str:
        kind = type(layer).__name__
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            extra = f"+{layer.output_padding[0]}" if isinstance(layer, nn.ConvTranspose2d) else ""
            return (
                f"{kind} {layer.in_channels}-{layer.out_channels} k{layer.kernel_size[0]} "
                f"s{layer.stride[0]} p{layer.padding[0]}{extra}"
            )
        if isinstance(layer, nn.Linear):
            return f"{kind} {layer.in_features}-{layer.out_features}"
        if isinstance(layer, nn.BatchNorm2d):
            return f"{kind} {layer.num_features}"
        return kind

    return [words(m) for m in module.modules() if not list(m.children())]


def test_reference_cnn_layer_by_layer() -> None:
    vae = on_meta(configs("reproduce/vae-mnist.yaml")[-1])
    assert layers(vae.encoder) == [
        *("Conv2d 1-32 k3 s1 p1", "BatchNorm2d 32", "ReLU"),
        *("Conv2d 32-64 k3 s2 p1", "BatchNorm2d 64", "ReLU"),
        *("Conv2d 64-64 k3 s2 p1", "BatchNorm2d 64", "ReLU"),
        "Flatten",
        "Linear 3136-16",  # mean and log-variance side by side
    ]
    assert layers(vae.decoder) == [
        *("Linear 8-3136", "ReLU", "Unflatten"),
        *("ConvTranspose2d 64-64 k3 s2 p1+1", "BatchNorm2d 64", "ReLU"),
        *("ConvTranspose2d 64-32 k3 s2 p1+1", "BatchNorm2d 32", "ReLU"),
        "ConvTranspose2d 32-1 k3 s1 p1+0",
    ]
    # convolutions without bias before a batch normalisation, which takes it away again
    convolutions = 9 * (1 * 32 + 32 * 64 + 64 * 64) + 9 * (64 * 64 + 64 * 32 + 32 * 1) + 1
    normalisations = 2 * (32 + 64 + 64) + 2 * (64 + 32)
    dense = 3136 * 16 + 16 + 8 * 3136 + 3136
    assert parameter_count(vae) == convolutions + normalisations + dense == 190_097


def test_reference_fnn_layer_by_layer() -> None:
    vae = on_meta(configs("reproduce/vae-mnist.yaml")[0])
    assert layers(vae.encoder) == [
        *("Flatten", "Linear 784-512", "ReLU", "Linear 512-256", "ReLU", "Linear 256-16"),
    ]
    assert layers(vae.decoder) == [
        *("Linear 8-256", "ReLU", "Linear 256-512", "ReLU", "Linear 512-784", "Unflatten"),
    ]


def test_estimators_are_compared_with_the_other_ancestors_network() -> None:
    grid = read("sgvb-vs-kl.yaml")
    assert grid.axes == {"loss": ("bce", "mse"), "estimator": ("sgvb", "kl")}
    for config in configs("sgvb-vs-kl.yaml"):
        vae = on_meta(config)
        assert layers(vae.encoder) == [
            *("Flatten", "Linear 784-128", "GELU", "Linear 128-32", "GELU"),
            *("Linear 32-16", "GELU", "Linear 16-4"),
        ]
        assert layers(vae.decoder) == [
            *("Linear 2-16", "GELU", "Linear 16-32", "GELU"),
            *("Linear 32-128", "GELU", "Linear 128-784", "Unflatten"),
        ]
        training = config.training
        assert (training.epochs, training.batch_size, training.learning_rate) == (50, 256, 1e-3)
        assert training.optimizer.name == "adam"


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    text = NOTEBOOK.read_text(encoding="utf-8")
    found: nbformat.NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(found)
    return found


def test_notebook_is_committed_without_outputs(notebook: nbformat.NotebookNode) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.id for cell in code if cell.outputs or cell.execution_count] == []


def test_notebook_passes_the_linter() -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", str(NOTEBOOK)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def tiny_grid(folder: Path) -> None:
    """Two cells, trained for one epoch on 64 digits, as a grid leaves them; a third is missing."""
    raw: dict[str, Any] = {
        "name": "tiny",
        "question": "Does the notebook run?",
        "dataset": {"name": "digits", "train": 64, "validation": 64},
        "axes": {"model": ["fnn", "cnn"], "loss": ["bce", "mse"]},
        "exclude": [{"model": "cnn", "loss": "mse"}],
        "model": {"latent_dim": 3, "fnn": {"hidden": [16]}, "cnn": {"channels": [4, 4]}},
        "training": {"epochs": 1, "batch_size": 32},
    }
    grid = make_grid(raw)
    runs = grid.runs()
    write_atomic(folder / "grid.yaml", dump_yaml(make_manifest(grid, runs)))
    for config, cell in ((r.config, r.cell) for r in runs if r.cell["loss"] == "bce"):
        store = run_store(folder, config.run_id)
        record = run(Task(config, cell, store.path, device="cpu"))
        assert record["status"] == "complete", record["reason"]


def pictures(cell: nbformat.NotebookNode) -> list[Image.Image]:
    data = [output.get("data", {}) for output in cell.outputs]
    return [
        Image.open(io.BytesIO(base64.b64decode(d["image/png"]))) for d in data if "image/png" in d
    ]


@pytest.mark.slow
def test_notebook_runs_on_a_tiny_grid_and_shows_its_pictures(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tiny"
    tiny_grid(folder)
    monkeypatch.setenv("VAEBENCH_RESULTS", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    done = NotebookClient(
        copy.deepcopy(notebook),
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()

    code = [cell for cell in done.cells if cell.cell_type == "code"]
    text = "".join(str(output) for cell in code for output in cell.outputs)
    assert "Does the notebook run?" in text
    assert "fnn" in text
    assert "cnn" in text
    assert [o.name for cell in code for o in cell.outputs if o.output_type == "stream"] == []
    shown = [pictures(cell) for cell in code if "show(figures." in cell.source]
    # reconstructions and generations of both cells, then the two walks
    assert [len(found) for found in shown] == [2, 2, 1, 1]
    for picture in (picture for found in shown for picture in found):
        assert min(picture.size) > 100
        assert len(picture.convert("L").getcolors(256) or []) > 10, "a blank picture"
