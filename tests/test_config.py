"""The configuration: what a file may say, what it is told when wrong, what identifies a run."""

import copy
import itertools
import math
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st
from small_runs import exchange, raise_version

from experiments.keys import REGISTRIES
from vaebench.cli.options import registered
from vaebench.config import (
    AXES,
    Grid,
    RunConfig,
    make_grid,
    make_run,
    make_single,
    read_yaml,
    run_type,
    with_value,
    without_file,
)
from vaebench.config.run import REGISTRIES as VERSIONED
from vaebench.datasets import DATASETS
from vaebench.errors import ConfigError
from vaebench.estimators import ESTIMATORS
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS, fnn
from vaebench.run import model_cost
from vaebench.training import OPTIMIZERS, SCHEDULES

CHOICES = [(key, name) for key, registry in REGISTRIES.items() for name in registry]


def nested(key: str, value: Any) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for ``a.b``."""
    return with_value({}, key, value)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths and values of everything in a config that is no mapping."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def changed(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    new = copy.deepcopy(config)
    section = new
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return new


# ---------------------------------------------------------------- defaults and shorthand


GIVEN: dict[str, Any] = {  # what a data set needs
    "folder": {"folder": {"path": "pictures"}},
    "npz": {"npz": {"path": "images.npz", "shape": [1, 8, 8]}},
}


def make_raw(key: str, name: str) -> Any:
    """A choice: its name alone, if that is enough."""
    return {"name": name, **GIVEN[name]} if name in GIVEN else name


def beside(key: str, name: str) -> dict[str, Any]:
    """What a choice needs beside its name."""
    return {"dataset": pixels_for(name)} if key == "loss" else {}


def test_an_empty_configuration_is_the_default_run() -> None:
    config = make_run({})
    assert (config.dataset.name, config.model.name, config.loss.name, config.estimator.name) == (
        "mnist",
        "fnn",
        "bce",
        "kl",
    )
    assert config.model.latent_dim == 8
    assert config.model.options["hidden"] == (512, 256)
    assert (config.training.epochs, config.training.batch_size) == (50, 256)
    assert (config.training.optimizer.name, config.training.learning_rate) == ("adam", 1e-3)
    assert config.training.early_stopping is None
    assert (config.training.beta, config.evaluate, config.seed) == (1.0, "last", 0)


def test_an_empty_grid_is_the_eight_cells_on_mnist_with_one_seed() -> None:
    grid = make_grid({})
    assert (grid.name, grid.seeds) == ("mnist", (0,))
    cells = [run.cell for run in grid.runs()]
    assert cells == [
        {"model": model, "loss": loss, "estimator": estimator}
        for model in ("fnn", "cnn")
        for loss in ("bce", "mse")
        for estimator in ("sgvb", "kl")
    ]
    assert AXES == {"model": ["fnn", "cnn"], "loss": ["bce", "mse"], "estimator": ["sgvb", "kl"]}


@pytest.mark.parametrize(("key", "name"), CHOICES)
def test_a_plain_name_stands_for_the_choice_with_its_defaults(key: str, name: str) -> None:
    plain, more = make_raw(key, name), GIVEN.get(name, {})
    assert make_run(beside(key, name) | nested(key, plain)) == make_run(
        beside(key, name) | nested(key, {"name": name, **more})
    )


@pytest.mark.parametrize(("key", "name"), CHOICES)
def test_every_registered_name_can_be_configured_and_builds_its_own_section_only(
    key: str, name: str
) -> None:
    section: Any = make_run(beside(key, name) | nested(key, make_raw(key, name))).to_dict()
    for part in key.split("."):
        section = section[part]
    assert section["name"] == name
    assert not set(section) & (set(REGISTRIES[key]) - {name})


def test_the_options_of_a_name_that_is_not_chosen_do_not_change_the_run() -> None:
    both = {"name": "fnn", "fnn": {"hidden": [3]}, "cnn": {"channels": [7]}}
    config = make_run({"model": both})
    assert config.run_id == make_run({"model": {"name": "fnn", "fnn": {"hidden": [3]}}}).run_id
    assert config.to_dict()["model"] == {
        "name": "fnn",
        "latent_dim": 8,
        "fnn": {"hidden": [3], "activation": "relu", "batch_norm": False},
    }


@pytest.mark.parametrize("name", DATASETS)
def test_the_validation_size_that_a_data_set_decides_is_written_out(name: str) -> None:
    data = {"name": name, **GIVEN.get(name, {})}
    assert make_run({"dataset": data}).dataset.validation == DATASETS[name].validation
    assert make_run({"dataset": data | {"validation": 0}}).dataset.validation == 0
    assert make_run({"dataset": data | {"validation": "test"}}).dataset.validation == "test"


def test_options_of_a_data_set_are_keys_and_one_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"dataset: folder\.path must be given"):
        make_run({"dataset": "folder"})
    run = make_run({"dataset": {"name": "folder", "folder": {"path": "flowers", "channels": 1}}})
    assert run.dataset.options == {"path": "flowers", "size": 32, "channels": 1}
    other = make_run({"dataset": {"name": "folder", "folder": {"path": "trees", "channels": 1}}})
    assert other.run_id != run.run_id
    with pytest.raises(ConfigError, match=r"dataset\.folder\.channels"):
        make_run({"dataset": {"name": "folder", "folder": {"path": "flowers", "channels": 2}}})
    with pytest.raises(ConfigError, match=r"unknown key; did you mean 'path'"):
        make_run({"dataset": {"name": "folder", "folder": {"paht": "flowers"}}})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_run({}).seed = 3


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ({"modle": "fnn"}, "modle: unknown key; did you mean 'model'?"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key; did you mean 'epochs'?"),
        (
            {"model": {"name": "fnn", "fnn": {"hiden": [3]}}},
            "model.fnn.hiden: unknown key; did you mean 'hidden'?",
        ),
        ({"dataset": "mnits"}, "dataset.name: unknown name 'mnits'; did you mean 'mnist'?"),
        ({"model": "cn"}, "model.name: unknown name 'cn'; did you mean 'cnn'?"),
        (
            {"training": {"schedule": "cosin"}},
            "training.schedule.name: unknown name 'cosin'; did you mean 'cosine'?",
        ),
        ({"training": {"epochs": 0}}, "training.epochs: "),
        ({"training": {"learning_rate": math.nan}}, "training.learning_rate: "),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: "),
        ({"loss": {"name": "mse", "mse": {"sigma2": 0}}}, "loss.mse.sigma2: "),
        ({"model": {"name": "cnn", "cnn": {"kernel_size": 4}}}, "model.cnn.kernel_size: "),
        ({"model": {"name": "cnn", "cnn": {"channels": []}}}, "model.cnn.channels: "),
        ({"model": {"name": "fnn", "latent_dim": 0}}, "model.latent_dim: "),
        ({"seed": -1}, "seed: "),
        ({"training": None}, "training: Input should be a mapping of keys to values"),
        ({"evaluate": "first"}, "evaluate: Input should be 'last' or 'best'"),
        ({"device": "cpu"}, "device: unknown key"),  # where a run runs is no part of what it is
        ({"jobs": 2}, "jobs: unknown key"),
    ],
)
def test_what_is_wrong_is_named_by_file_key_and_remedy(raw: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run(raw, source="run.yaml")
    message = str(caught.value)
    assert message.startswith(f"run.yaml: {wanted}")
    assert "\n" not in message
    assert "choose from" in message or "unknown" not in message


def test_all_mistakes_are_told_at_once_in_one_line() -> None:
    raw = {
        "modle": 1,
        "dataset": "mnits",
        "loss": {"name": "mse", "mse": {"sigma2": -1}},
        "training": {"epochs": 0, "optimizer": "adm"},
    }
    with pytest.raises(ConfigError) as caught:
        make_grid(raw, source="grid.yaml").runs("grid.yaml")
    message = str(caught.value)
    assert message.startswith("grid.yaml: ")
    assert "\n" not in message
    for key in (
        "modle: unknown key",
        "dataset.name: unknown name 'mnits'",
        "loss.mse.sigma2: ",
        "training.epochs: ",
        "training.optimizer.name: unknown name 'adm'",
    ):
        assert message.count(key) == 1, f"{key} once, though eight cells have it"


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ({"training": {"schedule": "plateau"}}, "training.schedule: plateau"),
        ({"training": {"early_stopping": {"patience": 2}}}, "training.early_stopping"),
        ({"evaluate": "best"}, "evaluate: best"),
    ],
)
def test_what_selects_on_validation_wants_a_validation_split(
    extra: dict[str, Any], key: str
) -> None:
    make_run(extra)
    make_run(extra | {"dataset": {"name": "mnist", "validation": "test"}})
    with pytest.raises(ConfigError, match=f"{key} needs a validation split"):
        make_run(extra | {"dataset": {"name": "mnist", "validation": 0}})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [1", "not YAML"),
        (b"- 1\n- 2\n", "not a mapping"),
        (b"just words", "not a mapping"),
        (b"3: x\n", "not a mapping"),
        (b"a: \xff", "not YAML"),
        (b"a: " + b"[" * 2000, "not YAML"),
        (b"a: !!python/object/apply:os.system [true]\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "grid.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read"):
        read_yaml(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "{}\n"])
def test_an_empty_file_is_a_mistake_and_not_the_default_grid(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"empty\.yaml: is empty"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (
            {"training": {"lr": 3}},
            "training.lr: unknown key; did you mean 'training.learning_rate'",
        ),
        ({"loss": {"sigma2": 3}}, "loss.sigma2: unknown key; did you mean 'loss.mse.sigma2'"),
        ({"epochs": 3}, "epochs: unknown key; did you mean 'training.epochs'"),
    ],
)
def test_a_key_that_stands_elsewhere_or_is_abbreviated_is_suggested(
    raw: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        make_run(raw)


@pytest.mark.parametrize("key", ["training.learning_rate", "evaluate", "training.optimizer"])
def test_a_list_of_values_where_one_is_wanted_is_told_of_axes(key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"`axes: {{{key}: [...]}}`")):
        make_grid({}, {key: ["last", "best"]})


def test_a_list_of_a_wrong_element_is_not_told_of_axes() -> None:
    with pytest.raises(ConfigError) as caught:
        make_grid({"model": {"cnn": {"channels": [[1]]}}})
    assert "`axes: {" not in str(caught.value)


def test_mistakes_of_keys_axes_cells_and_claims_are_told_in_one_go() -> None:
    raw = {
        "name": "a b",
        "axes": {"model": ["fnn", "cn"], "training.lr": [1, 2]},
        "exclude": [{"optimizer": 1}],
        "claims": [{"metric": "test/ssim", "better": {"modle": 1}, "than": {"modle": 2}}],
        "training": {"epochs": 0},
        "seeds": 0,
        "estimator": ["kl"],
        "modle": 3,
    }
    with pytest.raises(ConfigError) as caught:
        make_grid(raw, {"axes.model": 1}, source="grid.yaml")
    message = str(caught.value)
    for mistake in (
        "estimator: should be one name",
        "exclude: 'optimizer' is no axis",
        "axes.model: it can only be set as a whole",
        "seeds: 0 is no number of seeds",
        "name: should be up to 64",
        "training.epochs: ",
        "training.lr: unknown key",
        "modle: unknown key",
        "model.name: unknown name 'cn'",
        "claims.0: 'modle' is no axis",
    ):
        assert message.count(mistake) == 1, mistake


def test_axes_that_are_wrong_hide_no_mistake_of_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"axes.*training\.epochs: "):
        make_grid({"axes": {"model": []}, "training": {"epochs": 0}})
    # what holds between settings may be another thing in the cells
    with pytest.raises(ConfigError) as caught:
        make_grid({"axes": {"model": []}, "dataset": {"validation": 0}, "evaluate": "best"})
    assert "evaluate" not in str(caught.value)


def test_every_value_of_tune_that_is_wrong_is_told() -> None:
    tune = {"key": "training.learning_rate", "values": [-1.0, 0.1, -2.0]}
    with pytest.raises(ConfigError, match=r"tune\.values: -2\.0: .*tune\.values: -1\.0: "):
        make_grid({"tune": tune})


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("model.latent_dim", [2, 8]),
        ("training.learning_rate", [0.001, 0.01]),
        ("training.optimizer", ["adam", "sgd"]),
        ("loss.mse.sigma2", [0.02, 0.5]),
        ("dataset", ["mnist", "digits"]),
        ("dataset.binarize", ["none", "static"]),
        ("evaluate", ["last", "best"]),
    ],
)
def test_any_key_may_be_an_axis(key: str, values: list[Any]) -> None:
    grid = make_grid({"model": "fnn", "loss": "mse", "dataset": "mnist", "axes": {key: values}})
    runs = grid.runs()
    assert [run.cell for run in runs] == [{key: value} for value in values]
    for run, value in zip(runs, values, strict=True):
        found: Any = run.config.to_dict()
        for part in key.split("."):
            found = found[part]
        assert (found["name"] if isinstance(found, dict) else found) == value
    assert len({run.config.run_id for run in runs}) == len(values)


def test_an_axis_below_a_choice_without_a_name_keeps_the_default_name() -> None:
    runs = make_grid({"axes": {"model.latent_dim": [2, 8]}}).runs()
    assert [run.config.model.latent_dim for run in runs] == [2, 8]
    assert {run.config.model.name for run in runs} == {"fnn"}


def test_a_section_of_a_choice_without_a_name_keeps_the_default_name() -> None:
    config = make_run({"training": {"optimizer": {"adam": {"weight_decay": 0.1}}}})
    assert config.training.optimizer.name == "adam"
    assert config.training.optimizer.options == {"weight_decay": 0.1}


def test_an_axis_of_seeds_is_an_error_not_the_same_run_twice() -> None:
    with pytest.raises(ConfigError, match="seed"):
        make_grid({"axes": {"seed": [1, 2]}}).runs()


def test_an_axis_over_names_keeps_the_options_that_the_settings_give_them() -> None:
    raw = {
        "model": {"latent_dim": 2, "fnn": {"hidden": [9]}, "cnn": {"channels": [4], "strides": [2]}}
    }
    by_name = {run.config.model.name: run.config.model for run in make_grid(raw).runs()}
    assert by_name["fnn"].options["hidden"] == (9,)
    assert by_name["cnn"].options["channels"] == (4,)
    assert {model.latent_dim for model in by_name.values()} == {2}


def test_exclude_leaves_out_every_cell_that_has_all_the_values_of_an_entry() -> None:
    everything = [run.cell for run in make_grid({}).runs()]
    left = [
        run.cell
        for run in make_grid(
            {"exclude": [{"model": "cnn", "estimator": "sgvb"}, {"loss": "mse", "model": "fnn"}]}
        ).runs()
    ]
    assert left == [
        cell
        for cell in everything
        if not (cell["model"] == "cnn" and cell["estimator"] == "sgvb")
        and not (cell["model"] == "fnn" and cell["loss"] == "mse")
    ]
    assert len(left) == 4


def test_excluding_everything_is_an_error() -> None:
    with pytest.raises(ConfigError, match="exclude leaves no run"):
        make_grid({"exclude": [{"model": "fnn"}, {"model": "cnn"}]}).runs()


@pytest.mark.parametrize("entry", [{"modle": "cnn"}, {"model": "cnm"}])
def test_an_exclusion_that_can_never_apply_is_an_error(entry: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="exclude"):
        make_grid({"exclude": [entry]}).runs()


def test_an_exclusion_of_a_value_that_an_option_left_out_is_no_error() -> None:
    runs = make_grid({"exclude": [{"model": "cnn"}]}, {"model": ["fnn"]}).runs()
    assert [run.cell["model"] for run in runs] == ["fnn"] * 4


def test_two_cells_that_are_the_same_run_are_an_error_that_names_both() -> None:
    raw = {"axes": {"loss": ["bce", "mse"], "loss.mse.sigma2": [0.02, 0.5]}}
    with pytest.raises(ConfigError) as caught:
        make_grid(raw).runs("grid.yaml")
    message = str(caught.value)
    assert "are the same run" in message
    assert "'bce'" in message
    assert "exclude one of them" in message
    fixed = make_grid(raw | {"exclude": [{"loss": "bce", "loss.mse.sigma2": 0.02}]}).runs()
    assert len(fixed) == 3


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [
        ({"seeds": 3}, (0, 1, 2)),
        ({"seeds": [7, 3]}, (7, 3)),
        ({"seed": 5}, (5,)),
        ({"seed": 5, "seeds": 2}, (0, 1)),
        ({}, (0,)),
    ],
)
def test_seeds_are_a_number_or_a_list(raw: dict[str, Any], seeds: tuple[int, ...]) -> None:
    grid = make_grid(raw)
    assert grid.seeds == seeds
    runs = grid.runs()
    assert tuple(run.config.seed for run in runs) == seeds * 8
    assert len({run.config.run_id for run in runs}) == len(runs)


@pytest.mark.parametrize("seeds", [0, -2, [], [-1], [1, 1], "three", None, [0.5], [2**70]])
def test_seeds_that_are_none_are_an_error(seeds: Any) -> None:
    with pytest.raises(ConfigError, match="seed"):
        make_grid({"seeds": seeds}).runs()


@pytest.mark.parametrize("axes", ["fnn", ["model"], {"model": []}, {"model": "fnn"}, 3])
def test_axes_that_are_no_mapping_of_lists_are_an_error(axes: Any) -> None:
    with pytest.raises(ConfigError, match=r"grid\.yaml: .*axes"):
        make_grid({"axes": axes}, source="grid.yaml").runs("grid.yaml")


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "x" * 65, 3, None])
def test_a_name_that_makes_no_folder_is_an_error(name: Any) -> None:
    with pytest.raises(ConfigError, match="name: "):
        make_grid({"name": name})


def test_overrides_beat_the_file_which_beats_the_defaults() -> None:
    raw = {"training": {"epochs": 7, "batch_size": 64}}
    assert make_grid({}).runs()[0].config.training.epochs == 50
    assert make_grid(raw).runs()[0].config.training.epochs == 7
    training = make_grid(raw, {"training.epochs": 3}).runs()[0].config.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 64, 1e-3)


def test_an_override_of_an_axis_replaces_its_values() -> None:
    grid = make_grid({"axes": {"model": ["fnn", "cnn"], "loss": ["bce"]}}, {"model": ["cnn"]})
    assert [run.cell for run in grid.runs()] == [{"model": "cnn", "loss": "bce"}]
    one = make_grid({"axes": {"model": ["fnn", "cnn"]}}, {"model": "fnn"})
    assert [run.cell for run in one.runs()] == [{"model": "fnn"}]


@pytest.mark.parametrize("short", ["kl", {"name": "kl", "samples": 3}])
def test_an_override_of_a_choice_that_the_file_gives_by_name_is_that_choice(short: Any) -> None:
    raw = {"axes": {"model": ["fnn"]}, "loss": "mse", "estimator": short}
    grid = make_grid(raw, {"estimator": ["sgvb"], "loss": ["bce"]})
    assert [run.cell for run in grid.runs()] == [{"model": "fnn"}]
    assert {(r.config.loss.name, r.config.estimator.name) for r in grid.runs()} == {("bce", "sgvb")}
    several = make_grid(raw, {"estimator": ["sgvb", "kl"]})
    assert [run.cell["estimator"] for run in several.runs()] == ["sgvb", "kl"]


def test_the_question_of_a_file_is_left_out_where_options_leave_out_values() -> None:
    raw = {"axes": {"model": ["fnn", "cnn"]}, "question": "fnn or cnn?"}
    assert make_grid(raw, {"model": ["fnn"]}).question == ""
    assert make_grid(raw, {"model": ["cnn", "fnn", "linear"]}).question == "fnn or cnn?"
    assert make_grid(raw, {"model": ["fnn"], "question": "how?"}).question == "how?"
    assert make_grid(raw, {"training.epochs": 3}).question == "fnn or cnn?"


def test_overrides_reach_the_keys_of_the_grid() -> None:
    grid = make_grid({"name": "a", "seeds": 2}, {"name": "b", "seeds": [4], "question": "why?"})
    assert (grid.name, grid.seeds, grid.question) == ("b", (4,), "why?")


@pytest.mark.parametrize("make", [make_grid, make_single])
def test_an_override_of_the_seed_is_not_ignored(make: Any) -> None:
    assert {run.config.seed for run in make({}, {"seed": 3}).runs()} == {3}


@pytest.mark.parametrize("make", [make_grid, make_single])
def test_an_override_of_the_name_of_an_axis_is_not_ignored(make: Any) -> None:
    runs = make({}, {"model.name": "cnn"}).runs()
    assert {run.config.model.name for run in runs} == {"cnn"}


def test_an_override_of_settings_as_such_is_an_error() -> None:
    with pytest.raises(ConfigError, match="settings"):
        make_grid({}, {"settings": 3}).runs()


def test_an_override_of_an_option_keeps_a_choice_given_by_name() -> None:
    raw = {"training": {"schedule": "multistep"}}
    config = make_grid(raw, {"training.schedule.multistep.milestones": [2, 4]}).runs()[0].config
    assert config.training.schedule.options == {"milestones": (2, 4), "gamma": 0.1}


def test_a_single_run_is_a_grid_of_one_named_after_it() -> None:
    grid = make_single({"dataset": "digits", "model": "cnn", "loss": "mse"}, {"estimator": "sgvb"})
    assert grid.name == "digits-cnn-mse-sgvb"
    runs = grid.runs()
    assert [run.cell for run in runs] == [{"model": "cnn", "loss": "mse", "estimator": "sgvb"}]


def test_a_stored_configuration_read_as_a_single_run_is_the_same_run() -> None:
    raw = {
        "dataset": {"name": "digits", "train": 64},
        "model": {"name": "cnn", "cnn": {"channels": [4], "strides": [2]}},
        "training": {"schedule": "plateau", "early_stopping": {"patience": 3}},
        "seed": 11,
    }
    config = make_run(raw)
    stored = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    assert [run.config for run in make_single(stored).runs()] == [config]


# ---------------------------------------------------------------- identity


def candidates() -> list[Any]:
    """Values of every kind that a key of the configuration may take."""
    names = [name for registry in REGISTRIES.values() for name in registry]
    words = [
        "optimal",
        "static",
        "best",
        "quantiles",
        "linear",
        "sigmoid",
        "gelu",
        "relu",
        "none",
        "last",
    ]
    return [*names, *words, True, False, 2, 1, 0.25, 0.5, [3], [2, 2, 2], {"patience": 3}]


def pixels_for(loss: str) -> Any:
    """A data set that a loss can be trained on."""
    wants = getattr(LIKELIHOODS[loss], "dequantized_only", False)
    return {"name": "mnist", "dequantize": "uniform"} if wants else "digits"


EVERYTHING = [
    {
        "dataset": pixels_for(loss),
        "model": model,
        "loss": loss,
        "training": {"optimizer": optimizer, "schedule": schedule, "early_stopping": early},
        "diagnostics": {"gradient_variance": early is None},
    }
    for model, loss, optimizer, schedule, early in zip(
        [*MODELS, *["fnn"] * 4],
        [*LIKELIHOODS, *["bce"] * 4],
        [*OPTIMIZERS, *["adam"] * 4],
        [*SCHEDULES, *["constant"] * 4],
        [None, {"patience": 7}, None, {"patience": 1}, None],
        strict=False,
    )
]


def test_a_likelihood_of_two_maps_needs_a_model_that_gives_them_and_dequantised_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = {"dataset": {"name": "mnist", "dequantize": "uniform"}, "loss": "heteroscedastic"}
    assert make_run(raw).loss.name == "heteroscedastic"
    with pytest.raises(ConfigError, match=r"dataset\.dequantize: .* needs uniform"):
        make_run({"loss": "heteroscedastic"})
    monkeypatch.setitem(MODELS, "plain", lambda shape, latent_dim: fnn(shape, latent_dim))
    assert make_run(raw | {"model": "plain", "loss": "mse"}).model.name == "plain"
    with pytest.raises(ConfigError, match=r"plain gives one parameter per pixel.* needs 2"):
        make_run(raw | {"model": "plain"})


def test_the_configurations_whose_keys_are_walked_name_every_registered_name() -> None:
    configs = [make_run(raw) for raw in EVERYTHING]
    assert {config.model.name for config in configs} == set(MODELS)
    assert {config.loss.name for config in configs} == set(LIKELIHOODS)
    assert {config.training.optimizer.name for config in configs} == set(OPTIMIZERS)
    assert {config.training.schedule.name for config in configs} == set(SCHEDULES)


def test_what_is_measured_is_no_part_of_a_runs_identity() -> None:
    plain, more = make_run({}), make_run({"metrics": {"log_px": 200}})
    assert more.run_id == plain.run_id
    assert more.identity() == plain.identity() == plain.to_dict()
    assert more.to_dict()["metrics"] == {"log_px": 200}
    assert make_run(more.to_dict()) == more


def test_sections_at_their_defaults_that_came_later_leave_a_configuration_as_it_was() -> None:
    spelled = make_run({"diagnostics": {"gradient_variance": False}, "metrics": {"log_px": None}})
    assert spelled.to_dict() == make_run({}).to_dict()
    assert not {"diagnostics", "metrics"} & spelled.to_dict().keys()


@pytest.mark.parametrize("raw", EVERYTHING)
def test_every_key_changes_the_fingerprint(raw: dict[str, Any]) -> None:
    """Trap 15: walked generically, so that a key added later is covered."""
    resolved = make_run(raw).to_dict()
    original = make_run(resolved).run_id
    walked = 0
    needed = {("dataset", "binarize"), ("dataset", "dequantize")}  # of dequantised pixels alone
    needed = needed if "dequantize" in resolved["dataset"] else set()
    for path, value in leaves(resolved):
        if tuple(path) in needed:
            continue
        others = []
        for candidate in candidates():
            try:
                other = make_run(changed(resolved, path, candidate))
            except ConfigError:
                continue
            if other.to_dict() != resolved:
                others.append(other)
        assert others, f"{'.'.join(path)}: no other value than {value!r} found: add a candidate"
        for other in others:
            assert other.run_id != original, ".".join(path)
        walked += 1
    assert walked >= 20


def test_the_version_of_the_numbers_changes_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_run({})
    before = config.run_id
    monkeypatch.setattr(sys.modules[RunConfig.__module__], "NUMBERS_VERSION", 10**6)
    assert config.run_id != before


COMPONENTS = [(key, name) for key, registry in VERSIONED.items() for name in list(registry)[:2]]


@pytest.mark.parametrize(("key", "name"), COMPONENTS)
def test_the_version_of_a_component_changes_the_fingerprint_of_the_runs_that_use_it_alone(
    key: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {each: [n for k, n in COMPONENTS if k == each] for each in VERSIONED}
    configs = [
        make_run(dict(zip(choices, names, strict=True)))
        for names in itertools.product(*choices.values())
    ]
    before = [(config.run_id, config.to_dict()) for config in configs]
    assert len({run_id for run_id, _ in before}) == 16
    raise_version(monkeypatch, key, name)
    for config, (run_id, dumped) in zip(configs, before, strict=True):
        uses = dumped[key]["name"] == name
        assert config.versions[key] == (2 if uses else 1)
        assert (config.run_id != run_id) == uses
        assert config.to_dict() == dumped


def test_two_components_of_a_raised_version_are_different_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The versions are told apart by what they are of."""
    config = make_run({})
    with monkeypatch.context() as patched:
        raise_version(patched, "model", "fnn")
        model = config.run_id
    with monkeypatch.context() as patched:
        raise_version(patched, "dataset", "mnist")
        assert config.run_id != model


def test_an_entry_that_says_nothing_of_versions_is_a_first_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_run({})
    before = config.run_id
    exchange(monkeypatch, MODELS, "fnn", lambda *_, **__: MODELS["linear"]((1, 8, 8), 2))
    assert config.versions["model"] == 1
    assert config.run_id == before


def test_the_fingerprint_is_twelve_hex_digits_and_stays_what_it_is() -> None:
    run_id = make_run({}).run_id
    assert len(run_id) == 12
    assert int(run_id, 16) >= 0
    assert make_run({"seed": 0, "training": {"epochs": 50}}).run_id == run_id
    assert make_run({"training": {"learning_rate": 1}}).run_id == (
        make_run({"training": {"learning_rate": 1.0}}).run_id
    )


@pytest.mark.parametrize("raw", EVERYTHING)
def test_reading_what_was_written_gives_the_same_run(raw: dict[str, Any]) -> None:
    config = make_run(raw)
    again = make_run(yaml.safe_load(yaml.safe_dump(config.to_dict(), sort_keys=False)))
    assert again == config
    assert again.run_id == config.run_id
    assert again.to_dict() == config.to_dict()


# ---------------------------------------------------------------- the reference settings


def test_the_reference_cnn_is_expressible_in_yaml() -> None:
    text = """
    dataset: {name: mnist, train: 60000, validation: test}
    model:
      name: cnn
      latent_dim: 8
      cnn: {channels: [32, 64, 64], strides: [1, 2, 2], hidden: [], batch_norm: true}
    loss: {name: mse, mse: {output: linear}}
    training: {schedule: plateau}
    """
    config = make_run(yaml.safe_load(text))
    convolutions = 9 * (1 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (32 + 64 + 64)
    heads = 64 * 7 * 7 * (8 + 8) + (8 + 8)
    opening = 8 * 64 * 7 * 7 + 64 * 7 * 7
    transposed = 9 * (64 * 64 + 64 * 32 + 32 * 1) + 1
    up_norms = 2 * (64 + 32)
    expected = convolutions + norms + heads + opening + transposed + up_norms
    assert model_cost(config)[0] == expected


@pytest.mark.parametrize(
    ("text", "widths", "latent"),
    [
        ("model: {name: fnn, latent_dim: 8, fnn: {hidden: [512, 256]}}", [784, 512, 256], 8),
        (
            "model: {name: fnn, latent_dim: 2, fnn: {hidden: [128, 32, 16], activation: gelu}}",
            [784, 128, 32, 16],
            2,
        ),
    ],
)
def test_the_reference_fnns_are_expressible_in_yaml(
    text: str, widths: list[int], latent: int
) -> None:
    down = [*widths, 2 * latent]
    up = [latent, *reversed(widths)]
    expected = sum(a * b + b for w in (down, up) for a, b in pairwise(w))
    parameters, flops = model_cost(make_run(yaml.safe_load(text)))
    assert parameters == expected
    assert flops == 2 * sum(a * b for w in (down, up) for a, b in pairwise(w))


def test_the_default_cnn_has_about_the_parameters_of_the_default_fnn() -> None:
    fnn, cnn = (model_cost(make_run({"model": name}))[0] for name in ("fnn", "cnn"))
    assert abs(cnn / fnn - 1) < 0.03


# ---------------------------------------------------------------- anything at all

KEYS = st.sampled_from(
    [*RunConfig.model_fields, *Grid.model_fields, *Grid.model_fields, "name", "fnn", "mse", "adam"]
) | st.text(max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 40)
    | st.floats(allow_nan=True)
    | st.sampled_from([*MODELS, *LIKELIHOODS, *ESTIMATORS, *DATASETS, *SCHEDULES])
    | st.text(max_size=6)
)
JUNK = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(JUNK)
def test_nothing_in_a_run_file_raises_anything_but_a_configuration_error(raw: Any) -> None:
    try:
        config = make_run(raw, source="f")
    except ConfigError as error:
        assert str(error).startswith("f: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert make_run(config.to_dict()).run_id == config.run_id


@given(JUNK, JUNK)
def test_nothing_in_a_grid_file_raises_anything_but_a_configuration_error(
    raw: Any, overrides: Any
) -> None:
    for make in (make_grid, make_single):
        try:
            runs = make(raw, overrides, source="f").runs("f")
        except ConfigError as error:
            assert str(error).startswith("f: ")  # noqa: PT017
        else:
            assert len({run.config.run_id for run in runs}) == len(runs)


@pytest.mark.parametrize("key", ["foo bar", "", "ä/ö", "a: b"])
def test_a_key_of_unusual_letters_is_named_in_the_error(key: str) -> None:
    with pytest.raises(ConfigError, match="unknown key") as caught:
        make_run({key: 1})
    assert repr(key) in str(caught.value) or (key and key in str(caught.value))
    with pytest.raises(ConfigError, match="unknown key") as caught:
        make_run({"training": {key: 1}})
    assert "did you mean 'training'" not in str(caught.value)


def test_a_structure_that_holds_itself_is_an_error() -> None:
    loop = yaml.safe_load("&a [*a]")
    with pytest.raises(ConfigError, match=r"model\.fnn\.hidden\.0: "):
        make_run({"model": {"name": "fnn", "fnn": {"hidden": loop}}})
    with pytest.raises(ConfigError, match=r"^grid: model: "):
        make_grid({"axes": {"model": loop}}).runs()


# ---------------------------------------------------------------- what help texts say


@pytest.mark.parametrize(
    ("module", "name", "registry"),
    [
        ("models", "MODELS", MODELS),
        ("likelihoods", "LIKELIHOODS", LIKELIHOODS),
        ("estimators", "ESTIMATORS", ESTIMATORS),
        ("datasets", "DATASETS", DATASETS),
        ("training/optimizers", "OPTIMIZERS", OPTIMIZERS),
        ("training/schedules", "SCHEDULES", SCHEDULES),
    ],
)
def test_the_names_read_off_the_source_are_those_of_the_registry(
    module: str, name: str, registry: dict[str, Any]
) -> None:
    assert registered(module, name) == list(registry)


def test_a_registry_that_is_not_there_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="NOTHING"):
        registered("models", "NOTHING")


@pytest.mark.parametrize("seeds", [10**12, True])
def test_a_number_of_seeds_that_nobody_means_is_refused(seeds: object) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        make_grid({"seeds": seeds})


DEMO = Path(__file__).parents[1] / "experiments" / "demo.yaml"


def test_digits_without_a_file_are_the_demo_and_other_data_sets_the_defaults() -> None:
    demo = make_grid(without_file("digits"), {"dataset": "digits"})
    assert demo == make_grid(read_yaml(DEMO))
    assert len(demo.runs()) == 8
    assert without_file("mnist") == without_file(None) == {}


@pytest.mark.parametrize("named", ["mse", {"name": "mse", "mse": {"sigma2": 0.1}}])
def test_a_choice_at_the_top_of_a_file_without_axes_is_an_axis_of_one_value(named: object) -> None:
    grid = make_grid({"loss": named})
    assert grid.axes == {"model": ("fnn", "cnn"), "loss": ("mse",), "estimator": ("sgvb", "kl")}
    assert {run.config.loss.name for run in grid.runs()} == {"mse"}
    sections = make_grid({"loss": {"mse": {"sigma2": 0.1}}})
    assert sections.axes["loss"] == ("bce", "mse"), "options alone choose nothing"


@pytest.mark.parametrize("text", ["dataset: digits\ndataset: mnist\n", "a: {b: 1, b: 2}\n"])
def test_a_key_that_stands_twice_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="stands twice"):
        read_yaml(path)


def test_a_value_that_an_axis_names_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="model names a value twice"):
        make_grid({"axes": {"model": ["fnn", "fnn"]}})


# ---------------------------------------------------------------- entries that are added


def test_an_entry_that_is_added_can_be_chosen_with_its_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mine(shape: Any, latent_dim: int, *, width: Annotated[int, Gt(0)] = 7) -> Any:
        return MODELS["fnn"](shape, latent_dim, hidden=(width,))

    with pytest.raises(ConfigError, match="mine"):
        make_run({"model": "mine"})
    before = make_run({})
    assert run_type() is run_type(), "it is built once"
    with monkeypatch.context() as patch:
        patch.setitem(MODELS, "mine", mine)
        assert make_run({"model": "mine"}).to_dict()["model"]["mine"] == {"width": 7}
        assert make_run({}).run_id == before.run_id
        with pytest.raises(ConfigError, match=r"model\.mine\.width: .*greater than 0"):
            make_run({"model": {"name": "mine", "mine": {"width": 0}}})
        with pytest.raises(ConfigError, match=r"model\.mine\.widht: .*width"):
            make_run({"model": {"name": "mine", "mine": {"widht": 1}}})
    with pytest.raises(ConfigError, match="unknown name 'mine'"):
        make_run({"model": "mine"})
    assert make_run({}) == before
