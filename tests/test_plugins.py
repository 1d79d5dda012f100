"""Plugins are loaded once, from where they were named, and say what they were."""

import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from plugin_files import forgotten, model_file, write
from small_runs import exchange, in_this_process_only, settings, without_figures
from small_runs import task as small_task

from vaebench import (
    FIGURES,
    LIKELIHOODS,
    METRICS,
    MODELS,
    load_results,
    load_run,
    plugins,
    repeat,
    report,
    run_grid,
    train,
)
from vaebench.cli import main
from vaebench.config import make_grid, make_run, make_single, read_yaml
from vaebench.errors import ConfigError, ResultsError
from vaebench.executors import require_loadable
from vaebench.grid import Listener, Options, plan
from vaebench.grid.evaluate import Outcome, evaluate
from vaebench.models import fnn
from vaebench.plugins import Registry, loaded
from vaebench.run import run
from vaebench.tracking.payload import fingerprint


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    with forgotten():
        yield


def names() -> list[str]:
    return [plugin.name for plugin in loaded()]


def refusal(file: Path) -> str:
    """What is said of a plugin that cannot be loaded; nothing of it may stay."""
    before = {id(r): list(r) for r in (MODELS, LIKELIHOODS, METRICS)}
    with pytest.raises(ConfigError) as refused:
        plugins.load([str(file)])
    assert {id(r): list(r) for r in (MODELS, LIKELIHOODS, METRICS)} == before
    assert names() == []
    return str(refused.value)


def test_a_file_is_loaded_once_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model_file(tmp_path)
    file.write_text("print('loaded')\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "link.py").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    plugins.load(["my_vae.py", str(file), "./my_vae.py", "link.py"])
    assert names() == ["my_vae.py"]
    assert capsys.readouterr() == ("", "loaded\n"), "the standard output is the command's"
    assert (plugin := MODELS.plugin("mine")) is not None
    assert plugin.path == file
    assert MODELS.plugin("fnn") is None
    assert not (tmp_path / "__pycache__").exists()


def test_paths_are_relative_to_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_file(tmp_path / "grids" / "code")
    grid = write(tmp_path / "grids" / "grid.yaml", "plugins: code/my_vae.py\nmodel: mine\n")
    monkeypatch.chdir(tmp_path)
    made = make_grid(read_yaml(Path("grids/grid.yaml")), source=str(grid))
    assert {run.config.model.name for run in made.runs()} == {"mine"}


def test_options_of_a_plugin_are_keys_like_others(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"plugins": [str(model_file(tmp_path))], "model": "mine"}
    grid = make_grid(raw | {"axes": {"model.mine.width": [3, 4]}})
    widths = [run.config.to_dict()["model"]["mine"]["width"] for run in grid.runs()]
    assert widths == [3, 4]
    with pytest.raises(ConfigError, match=r"model\.mine\.widht: unknown key; did you mean 'width'"):
        make_grid(raw | {"model": {"name": "mine", "mine": {"widht": 3}}})
    with pytest.raises(ConfigError, match=r"model\.name: .*did you mean 'mine'"):
        make_grid(raw | {"model": "mien"})
    with pytest.raises(ConfigError, match=r"model\.mine\.width"):
        make_grid(raw | {"model": {"name": "mine", "mine": {"width": "wide"}}})


def test_an_option_without_an_annotation_is_of_the_kind_of_its_default(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace("width: int = 6", "width=6"))
    plugins.load([str(file)])
    with pytest.raises(ConfigError, match=r"model\.mine\.width"):
        make_run({"model": {"name": "mine", "mine": {"width": "wide"}}})


def test_annotations_that_are_text_are_read(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    source = "from __future__ import annotations\n" + file.read_text(encoding="utf-8")
    file.write_text(source, encoding="utf-8")
    plugins.load([str(file)])
    assert make_run({"model": "mine"}).model.options == {"width": 6}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import vaebench.modles", "broken.py:2: ModuleNotFoundError"),
        ("def f(:", "broken.py:2: SyntaxError"),
        ("1 / 0", "broken.py:2: ZeroDivisionError"),
        ("raise SystemExit(3)", "broken.py:2: SystemExit"),
        ("from vaebench import MODELS; MODELS['fnn'] = print", "there are two models"),
        ("from vaebench import MODELS; MODELS['a b'] = print", "is no name of a model"),
        ("from vaebench import MODELS; MODELS['mine'] = 5", "is a int, not a function"),
        ("from vaebench import METRICS; METRICS['m'] = max", "enter Metric(max, ...)"),
        ("from vaebench import LIKELIHOODS; LIKELIHOODS['l'] = max", "has no log_prob"),
        ("import vaebench; vaebench.run_grid({})", "calls run_grid or train while"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_leaves_nothing(
    line: str, said: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "broken.py", "")
    file.write_text(f"from vaebench import MODELS; MODELS['first'] = print\n{line}\n")
    told = refusal(file)
    assert said in told
    assert "\n" not in told
    file.write_text("from vaebench import MODELS; MODELS['first'] = print\n")  # mended
    plugins.load([str(file)])
    assert "first" in MODELS


def test_a_name_that_exists_is_refused_with_both_places(tmp_path: Path) -> None:
    plugins.load([str(model_file(tmp_path))])
    with pytest.raises(ConfigError) as refused:
        plugins.load([str(model_file(tmp_path, file="other.py"))])
    assert f"{tmp_path}/my_vae.py" in str(refused.value)
    assert f"{tmp_path}/other.py" in str(refused.value)
    with pytest.raises(ConfigError, match=r"two plugins named my_vae\.py"):
        plugins.load([str(model_file(tmp_path / "elsewhere"))])


@pytest.mark.parametrize("name", ["no_such.py", "no_such_module", "math", "", 5])
def test_what_is_no_plugin_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        make_grid({"plugins": [name]})
    with pytest.raises(ConfigError):
        plugins.load([str(tmp_path)])  # a folder


def test_a_name_or_an_option_that_is_taken_is_refused(tmp_path: Path) -> None:
    plugins.load([str(model_file(tmp_path, name="latent_dim"))])
    with pytest.raises(ConfigError, match="taken by a key"):
        make_run({})


def test_the_digest_is_that_of_the_source_and_of_what_lies_beside_it(tmp_path: Path) -> None:
    def digest(width: int, unused: str = "") -> str | None:
        with forgotten():
            write(tmp_path / "helper_of_test.py", f"_of_a_test = True\nWIDTH = {width}\n")
            write(tmp_path / "unused.py", unused)
            file = model_file(tmp_path)
            source = "from helper_of_test import WIDTH\n" + file.read_text(encoding="utf-8")
            file.write_text(source, encoding="utf-8")
            plugins.load([str(file)])
            return loaded()[0].digest

    first = digest(6)
    assert first == digest(6, unused="# another")
    assert first != digest(7)


def test_a_module_of_a_package_is_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_of_test"
    write(package / "__init__.py", "_of_a_test = True\n")
    write(package / "parts.py", "_of_a_test = True\nWIDTH = 6\n")
    file = model_file(package, file="vaes.py")
    source = "_of_a_test = True\nfrom .parts import WIDTH\n" + file.read_text(encoding="utf-8")
    file.write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with forgotten():
        plugins.load(["package_of_test.vaes"])
        plugins.load([str(file)])  # the same
        assert names() == ["package_of_test.vaes"]
        before = loaded()[0]
        assert before.root == tmp_path
    write(package / "parts.py", "_of_a_test = True\nWIDTH = 16\n")
    plugins.load(["package_of_test.vaes"])
    assert loaded()[0].digest != before.digest


def test_what_a_script_entered_itself_is_known_by_its_file_and_refused_for_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def here(shape: Any, latent_dim: int) -> Any:
        return fnn(shape, latent_dim, hidden=(4,))

    monkeypatch.setitem(MODELS, "here", here)
    config = make_run({"model": "here"})
    [(plugin, provides)] = config.plugins.items()
    assert (plugin.name, provides) == (Path(__file__).name, ["model here"])
    assert plugin.digest is not None
    with pytest.raises(ConfigError, match=r"test_plugins\.py, which workers do not load"):
        require_loadable([config])
    with pytest.raises(ConfigError, match="workers do not load"):
        run_grid({"model": "here", "dataset": "digits"})


def test_a_script_may_name_itself(tmp_path: Path) -> None:
    script = model_file(tmp_path, file="script.py")
    source = script.read_text(encoding="utf-8") + (
        "from vaebench.config import make_grid\n"
        "if __name__ == '__main__':\n"
        "    from vaebench.executors import require_loadable\n"
        "    grid = make_grid({'plugins': [__file__], 'model': 'mine'})\n"
        "    require_loadable([run.config for run in grid.runs()])\n"
        "    print(len(grid.runs()))\n"
    )
    script.write_text(source, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_an_entry_of_a_registry_knows_its_plugin_also_after_a_failure(tmp_path: Path) -> None:
    registry: Registry[object] = Registry("model", {"fnn": fnn})
    assert registry.plugin("fnn") is None
    registry["other"] = model_file
    assert (plugin := registry.plugin("other")) is not None
    assert (plugin.name, plugin.is_named) == ("plugin_files.py", False)


GRID = {**settings(), "name": "mine", "axes": {"model": ["mine", "fnn"]}, "loss": "bce"}


def test_a_changed_source_makes_its_runs_stale_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    file = model_file(tmp_path)
    options = Options(results=tmp_path / "results", device="cpu", jobs=1)
    grid = GRID | {"plugins": [str(file)]}
    with forgotten():
        results = run_grid(grid, options)
        assert [record["status"] for record in results.records] == ["complete"] * 2
        mine, built_in = results.records
        assert mine["plugins"] == [
            {"name": "my_vae.py", "digest": loaded()[0].digest, "provides": ["model mine"]}
        ]
        assert "plugins" not in built_in
        assert str(tmp_path) not in (results.folder / "grid.yaml").read_text(encoding="utf-8")
        run = load_run(results.folder / "runs" / mine["run_id"])
    folder = results.folder / "runs" / mine["run_id"]
    for needs in (lambda: load_run(folder), lambda: repeat(folder)):
        with pytest.raises((ResultsError, ConfigError), match=r"model mine of the plugin my_vae"):
            needs()
    with pytest.raises(ConfigError, match=r"plugin my_vae\.py; name it with --plugin"):
        make_grid(read_yaml(results.folder / "grid.yaml"))
    outcomes: list[Outcome] = []
    evaluate(results.folder, outcomes.append, names=["elbo"])
    assert [outcome.kind for outcome in outcomes] == ["failed", "current"]
    with forgotten():
        again = load_run(folder, plugins=[file])
        assert again.metrics == run.metrics
        same = make_grid(read_yaml(results.folder / "grid.yaml"), {"plugins": [str(file)]})
        assert [entry.action for entry in plan(same, options)] == ["skip"] * 2

    file.write_text(file.read_text(encoding="utf-8").replace("Tanh", "ReLU"), encoding="utf-8")
    with forgotten():
        actions = {
            e.run.config.model.name: (e.action, e.why) for e in plan(make_grid(grid), options)
        }
        assert actions["mine"][0] == "skip"
        assert actions["mine"][1].startswith("stale: the plugin my_vae.py has changed")
        assert actions["fnn"] == ("skip", "complete")
        stale = plan(make_grid(grid), replace(options, rerun="stale"))
        assert [entry.action for entry in stale] == ["rerun", "skip"]
        with pytest.raises(ResultsError, match="another source of the plugin my_vae"):
            load_run(folder)
        with pytest.raises(ConfigError, match="another source of the plugin my_vae"):
            repeat(folder)
        assert load_run(folder, trust_changed=True).metrics == run.metrics
        more = run_grid(grid | {"seeds": [0, 1]}, options)
    assert report.status(more.folder)[0].stale == 1


def test_a_checkpoint_of_another_source_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    file = model_file(tmp_path)

    def interrupt(line: dict[str, Any]) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    def do(**others: Any) -> list[str]:
        warnings: list[str] = []
        with forgotten():
            plugins.load([str(file)])
            try:
                run(small_task(tmp_path / "run", model="mine"), warn=warnings.append, **others)
            except KeyboardInterrupt:
                return ["interrupted"]
        return warnings

    assert do(on_epoch=interrupt) == ["interrupted"]
    assert do(on_epoch=interrupt) == [], "epoch 1 is done"
    file.write_text(file.read_text(encoding="utf-8").replace("Tanh", "ReLU"), encoding="utf-8")
    (tmp_path / "run" / "record.json").unlink()
    [warning] = do()
    assert "the source of a plugin has changed" in warning
    assert (tmp_path / "run" / "attempts" / "1" / "checkpoint.pt").exists()


def test_a_worker_refuses_what_has_changed_since_the_command_began(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    with forgotten():
        plugins.load([str(file)])
        named = plugins.name_all()
    file.write_text(file.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has changed since the command began"):
        plugins.load_as_there(named)


def test_a_run_that_fails_in_a_plugin_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_figures(monkeypatch)
    file = model_file(tmp_path)
    source = file.read_text(encoding="utf-8").replace("nn.Tanh()", "Broken()")
    source += """
class Broken(nn.Module):
    steps = 0

    def forward(self, x):
        Broken.steps += self.training
        if Broken.steps > 4:
            raise ValueError("what I made is wrong")
        return x
"""
    file.write_text(source, encoding="utf-8")
    plugins.load([str(file)])
    record = run(small_task(tmp_path / "run", model="mine"))
    assert record["status"] == "failed"
    assert re.match(r"my_vae\.py:\d+: ValueError: what I made is wrong", record["reason"])
    line = int(record["reason"].split(":")[1])
    assert "raise" in source.splitlines()[line - 1]
    assert record["plugins"][0]["name"] == "my_vae.py"
    assert record["epochs"] == 1


@pytest.mark.parametrize("broken", ["pixels / 0", "[].absent", "nn.Linear(pixels, 3, 4, 5, 6)"])
def test_a_model_that_cannot_be_built_is_told_before_anything_is_written(
    broken: str, tmp_path: Path
) -> None:
    file = model_file(tmp_path)
    source = file.read_text(encoding="utf-8").replace("nn.Tanh()", broken)
    file.write_text(source, encoding="utf-8")
    options = Options(results=tmp_path / "results")
    with pytest.raises(ConfigError, match=r"mine: mine: my_vae\.py:\d+: "):
        run_grid(GRID | {"plugins": [str(file)]}, options)
    assert not (tmp_path / "results").exists()


def test_the_command_lists_what_there_is_and_from_where(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    done = CliRunner().invoke(main, ["plugins", "--plugin", str(file)])
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["model", "mine", "my_vae.py"] in [row[:3] for row in rows]
    assert ["metric", "ssim", "vaebench"] in [row[:3] for row in rows]
    assert str(file) in done.stdout


def test_train_takes_a_plugin_by_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)
    file = model_file(tmp_path)
    grid = make_single(settings(), {"plugins": [str(file)], "model": "mine", "loss": "bce"})
    loaded_run = train(grid, Options(results=tmp_path / "results", device="cpu"))
    assert loaded_run.config.model.name == "mine"


PICTURES = """
    from matplotlib.figure import Figure

    from vaebench import FIGURES, METRICS
    from vaebench.declarations import Declaration
    from vaebench.figures import Plot
    from vaebench.metrics import Metric


    def codes(arrays, *, title):
        figure = Figure()
        figure.add_subplot().scatter(*arrays["latent_2d"].T)
        return figure


    def bars(records, *, title):
        figure = Figure()
        figure.add_subplot().bar([r["run_id"] for r in records], [r["seed"] for r in records])
        return figure


    def broken(*_, **__):
        raise ValueError("so it is")


    FIGURES["codes"] = Plot(codes, "codes")
    FIGURES["bars"] = Plot(bars, "seeds", of="grid")
    FIGURES["broken"] = Plot(broken, "nothing")
    FIGURES["broken_bars"] = Plot(broken, "nothing", of="grid")
    METRICS["broken_metric"] = Metric(broken, Declaration("Broken", "", "lower", "dataset"))
"""


def test_figures_stand_in_the_report_and_what_is_broken_harms_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    warnings: list[str] = []

    class Heard(Listener):
        def warning(self, text: str) -> None:
            warnings.append(text)

    file = write(tmp_path / "pictures.py", PICTURES)
    grid = GRID | {"plugins": [str(file)], "axes": {"model": ["fnn"]}}
    results = run_grid(grid, Options(results=tmp_path / "results", device="cpu"), Heard())
    [record] = results.records
    assert record["status"] == "complete"
    assert record["figures"] == {"codes": "codes"}
    assert "test/broken_metric" not in record["metrics"]
    assert "broken_metric" not in record["metric_declarations"]
    notes = [note for note in record["notes"] if "ValueError: so it is" in note]
    assert [note.startswith(("Broken was", "The figure broken was")) for note in notes] == [
        True
    ] * 2
    assert all(re.search(r"pictures\.py:\d+: ", note) for note in notes)
    assert [text for text in warnings if "broken_bars" in text]
    text = (results.folder / "report.md").read_text(encoding="utf-8")
    shown = [f"runs/{record['run_id']}/figures/own-codes.png", "figures/own-bars.png"]
    assert all(f"]({path})" in text for path in shown)
    assert "broken" not in text.partition("## Further figures")[2].partition("## ")[0]
    page = (results.folder / "report.html").read_text(encoding="utf-8")
    for path in shown:
        picture = (results.folder / path).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert f'src="data:image/png;base64,{b64encode(picture).decode()}"' in page


def test_a_figure_that_is_drawn_otherwise_later_is_told_to_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run's record says so, by which MLflow knows what it has not been sent."""
    in_this_process_only(monkeypatch)
    file = write(tmp_path / "pictures.py", PICTURES.partition('FIGURES["broken"]')[0])
    grid = GRID | {"plugins": [str(file)], "axes": {"model": ["fnn"]}}
    folder = run_grid(grid, Options(results=tmp_path / "results", device="cpu")).folder

    def sent() -> str:
        evaluate(folder, device="cpu")
        [record] = load_results(folder).records
        return fingerprint(record)

    [record] = load_results(folder).records
    assert sent() == fingerprint(record)  # the same pictures
    with monkeypatch.context() as patch:  # undone before the plugin's entries are forgotten
        exchange(patch, FIGURES, "codes", replace(FIGURES["codes"], function=_red))
        drawn = sent()
        assert drawn != fingerprint(record)
        assert sent() == drawn


def _red(arrays: Any, *, title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().scatter(*arrays["latent_2d"].T, color="red")
    return figure


@pytest.mark.parametrize("command", ["report", "status", "compare"])
def test_no_command_that_shows_results_runs_what_a_folder_names(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process_only(monkeypatch)
    file = model_file(tmp_path)
    with forgotten():
        options = Options(results=tmp_path / "results", device="cpu")
        results = run_grid(GRID | {"plugins": [str(file)], "axes": {"model": ["mine"]}}, options)
    [record] = results.records
    trap = tmp_path / "ran"
    file.write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    for name, text in (("grid.yaml", "plugins"), (f"runs/{record['run_id']}/record.json", "name")):
        path = results.folder / name
        changed = path.read_text(encoding="utf-8").replace("my_vae.py", str(file))
        assert str(file) in changed, text
        path.write_text(changed, encoding="utf-8")
    folder = str(results.folder)
    arguments = [command, folder, folder] if command == "compare" else [command, folder]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert CliRunner().invoke(main, ["repeat", f"{folder}/runs/{record['run_id']}"]).exit_code == 2
    assert CliRunner().invoke(main, ["run-grid", f"{folder}/grid.yaml"]).exit_code == 2
    assert not trap.exists()
