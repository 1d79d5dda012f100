"""The worked examples in ``experiments/plugins``: run by real workers, repeated, loaded again."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from plugin_files import forgotten
from torch import Tensor, nn

from vaebench import load_results, run_grid
from vaebench.cli import main
from vaebench.config import make_grid, read_yaml
from vaebench.executors import Event
from vaebench.grid import Listener, Options
from vaebench.models import MODELS
from vaebench.plugins import load as load_plugins
from vaebench.run import model_cost
from vaebench.seeding import seeded, stream

FOLDER = Path(__file__).parents[1] / "experiments" / "plugins"
GRIDS = sorted(FOLDER.glob("*.yaml"))
pytest.importorskip("pythae", reason="one of the examples needs it")
EACH = pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
SMALL = {
    **{"dataset.train": 96, "dataset.validation": 48, "seeds": [0]},
    **{"training.epochs": 2, "training.batch_size": 32, "training.beta_warmup": 0},
}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    with forgotten():
        yield


def invoked(*arguments: object) -> Any:
    """The exit code and output of a command, in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@EACH
def test_grid_is_valid_has_a_question_and_is_explained(path: Path) -> None:
    grid = make_grid(read_yaml(path), source=path.name)
    assert grid.name == path.stem
    assert grid.question.endswith("?")
    assert path.read_text(encoding="utf-8").startswith("# The question: ")
    for found in grid.runs(path.name):
        parameters, flops = model_cost(found.config)
        assert flops > parameters > 0
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`vaebench run-grid experiments/plugins/{path.name}`" in readme
    assert f"({path.stem}.py)" in readme


LAYERS = nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d


def weights(*modules: nn.Module) -> list[tuple[Tensor, ...]]:
    """Parameters of each layer, in order: those of the two heads of an encoder side by side."""
    layers = [m for module in modules for m in module.modules() if isinstance(m, LAYERS)]
    found = [tuple(layer.parameters()) for layer in layers]
    heads = [n for n in range(1, len(found)) if found[n][0].shape == found[n - 1][0].shape]
    for n in [n for n in heads if isinstance(layers[n], nn.Linear)]:
        found[n - 1 : n + 1] = [tuple(map(torch.cat, zip(found[n - 1], found[n], strict=True)))]
    return found


def channels_last(value: Tensor) -> Tensor:
    """Weights of flattened feature maps (64, 7, 7) as the built-in cnn flattens them."""
    for axis in [axis for axis, size in enumerate(value.shape) if size == 64 * 7 * 7]:
        value = value.unflatten(axis, (64, 7, 7)).movedim(axis, axis + 2).flatten(axis, axis + 2)
    return value


@pytest.mark.parametrize(
    ("theirs", "ours", "grid"),
    [
        ("pytorch_examples", "fnn", "pytorch-examples"),
        ("vae_mnist_fnn", "fnn", "vae-mnist"),
        ("vae_mnist_cnn", "cnn", "vae-mnist"),
    ],
)
def test_published_networks_are_what_the_settings_that_reproduce_them_build(
    theirs: str, ours: str, grid: str
) -> None:
    """The built-in network with the published one's weights computes the same."""
    model = read_yaml(FOLDER.parent / "reproduce" / f"{grid}.yaml")["model"]
    load_plugins([str(FOLDER / "published_networks.py")])
    shape, latent_dim = (1, 28, 28), model["latent_dim"]
    with seeded(0, "test/published"):
        published = MODELS[theirs](shape, latent_dim)
        built_in = MODELS[ours](shape, latent_dim, **model[ours])
    for networks in (*published, *built_in):
        networks.double()
    with torch.no_grad():
        pairs = zip(weights(*built_in), weights(*published), strict=True)
        for to, of in pairs:
            for parameter, value in zip(to, of, strict=False):
                parameter.copy_(channels_last(value))
            # a further bias of theirs is taken away again by the batch normalisation behind it
            assert [value.ndim for value in of[len(to) :]] in ([], [1])
    x = torch.rand(5, *shape, generator=stream(0, "test/published/x"), dtype=torch.float64)
    q, (mean, log_var) = built_in.encoder(x), published.encoder(x)
    torch.testing.assert_close((q.mean, q.log_var), (mean, log_var))
    torch.testing.assert_close(built_in.decoder(mean), published.decoder(mean))
    assert published.decoder(mean).std() > 0


FRESH = """
import json, sys
import torch
import vaebench

run = vaebench.load_run(sys.argv[1], plugins=sys.argv[2:])
x = torch.full((2, 1, 8, 8), 0.5)
with torch.no_grad():
    images = run.model.reconstruct(x)
print(json.dumps({"shape": list(images.shape), "sum": images.double().sum().item().hex()}))
"""


@pytest.mark.slow
@EACH
def test_example_is_run_by_workers_repeated_bit_for_bit_and_loaded_in_a_fresh_process(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parents[1]))
    warnings: list[str] = []

    class Heard(Listener):
        def warning(self, text: str) -> None:
            warnings.append(text)

        def event(self, event: Event) -> None:
            pass

    with forgotten():
        grid = make_grid(read_yaml(path), SMALL, source=path.name)
        count = len(grid.runs())
        results = run_grid(grid, Options(results=tmp_path, device="cpu", jobs=2), Heard())
    assert results.failed == []
    assert [record["status"] for record in results.records] == ["complete"] * count
    assert (tmp_path / path.stem / "report.html").exists()
    used = [r for r in results.records if any(p["name"] == f"{path.stem}.py" for p in plugs(r))]
    assert used, "no record names the plugin"

    record = used[0]
    folder = results.folder / "runs" / record["run_id"]
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, str(folder), str(path.with_suffix(".py"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(fresh.stdout)["shape"] == [2, 1, 8, 8]
    with forgotten():
        repeated = invoked("repeat", folder, "--plugin", path.with_suffix(".py"), "--json")
    assert repeated.exit_code == 0, repeated.output
    assert json.loads(repeated.stdout)["identical"]
    assert [text for text in warnings if "plugin" in text] == []


def plugs(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Plugins that a record names: of its training, and of what was measured."""
    declared = record["metric_declarations"].values()
    measured = [{"name": d["plugin"], "digest": d["source"]} for d in declared if "plugin" in d]
    return [*record.get("plugins", []), *measured]


@pytest.mark.slow
def test_a_metric_is_measured_later_and_again_when_its_source_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "sharpness.py"
    file.write_bytes((FOLDER / "sharpness.py").read_bytes())
    raw = read_yaml(FOLDER / "sharpness.yaml")
    grid = make_grid({**raw, "plugins": [], "axes": {"model.latent_dim": [2]}}, SMALL)
    results = run_grid(grid, Options(results=tmp_path / "results", device="cpu"), Listener())
    [before] = results.records
    assert "test/sharpness" not in before["metrics"]

    def measured() -> tuple[str, dict[str, Any]]:
        with forgotten():
            done = invoked("evaluate", results.folder, "--plugin", file)
        assert done.exit_code == 0, done.output
        [record] = load_results(results.folder).records
        return done.stdout, record

    said, first = measured()
    assert "sharpness" in said
    assert {**before["metrics"], "test/sharpness": first["metrics"]["test/sharpness"]} == {
        **first["metrics"]
    }
    assert "up to date" in measured()[0]
    file.write_text(file.read_text(encoding="utf-8").replace("-4, 1]", "-4.5, 1]"))
    said, second = measured()
    assert "sharpness" in said
    assert second["metrics"]["test/sharpness"] != first["metrics"]["test/sharpness"]
    report = (results.folder / "report.md").read_text(encoding="utf-8")
    assert "Sharpness ↑" in report
    assert f"runs/{second['run_id']}/figures/own-edges.png" in report
    assert second["figures"] == {"edges": "edges of images and reconstructions"}
