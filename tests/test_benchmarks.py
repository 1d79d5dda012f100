"""The benchmarks: contenders take turns at the same work, and only ratios are compared."""

import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny import SHAPE, make_vae
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks import __main__ as program
from experiments.benchmarks import commands
from experiments.benchmarks.__main__ import main, run_benchmark
from experiments.benchmarks.commands import ROOT, environment
from experiments.benchmarks.contenders import CONTENDERS
from experiments.benchmarks.limit import products
from experiments.benchmarks.measured import (
    Measurement,
    Ratio,
    Result,
    load_result,
    ratio,
    regressions,
    require_same_cpu,
    save,
    text,
)
from experiments.benchmarks.parts import RUNS, START, TORCH, Clock
from experiments.benchmarks.peers import PEERS, loss_of
from experiments.benchmarks.settings import Steps, read_benchmark, require_installed
from experiments.benchmarks.steps import _Contender, _start_up
from experiments.benchmarks.work import Laps, Work
from vaebench.environment import describe
from vaebench.errors import ConfigError, VaebenchError
from vaebench.estimators import closed_form_kl
from vaebench.files import dump_yaml
from vaebench.layers import AVAILABLE
from vaebench.likelihoods import LIKELIHOODS
from vaebench.models import MODELS
from vaebench.vae import flops_per_image

RUN: dict[str, Any] = {
    "dataset": {"name": "digits", "train": 70},
    "model": {"name": "fnn", "latent_dim": 2, "fnn": {"hidden": [8]}},
    "training": {"batch_size": 20},
}
STEPS: dict[str, Any] = {
    "name": "small",
    "question": "Is it | quick?",
    "kind": "steps",
    "repeats": 2,
    "contenders": ["vaebench", "limit"],
    "run": RUN,
}


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "small.yaml"
    path.write_text(dump_yaml(content))
    return path


def result(**ratios: float) -> Result:
    return Result(
        name="small",
        question="Is it | quick?",
        settings={},
        environment={"cpu": "a | b", "cores": 2, "python": "3.11", "packages": {"torch": "2"}},
        measurements=[Measurement("vaebench", "images/s", [100.0, 110.0, 1000.0])],
        ratios=[Ratio(name, [value]) for name, value in ratios.items()],
        remarks=["a <remark>"],
    )


# What is compared


def test_a_ratio_is_how_many_times_better_the_first_is_turn_by_turn() -> None:
    fast, slow = Measurement("a", "images/s", [200, 90]), Measurement("b", "images/s", [100, 30])
    assert ratio(fast, slow).values == [2, 3]
    assert ratio(fast, slow).name == "a / b"
    quick, long = Measurement("c", "s", [1, 2]), Measurement("d", "s", [3, 8])
    assert ratio(quick, long).values == [3, 4]  # of seconds, fewer are better
    assert Measurement("e", "s", [3, 1, 100]).median == 3  # one slow turn moves nothing


def test_only_a_ratio_that_fell_by_more_than_the_margin_is_a_regression() -> None:
    before = result(a=2.0, b=2.0, c=2.0, gone=9.0)
    now = result(a=1.69, b=1.71, c=9.0, new=0.1)
    assert regressions(before, now) == ["a: 2.00 times before, 1.69 now"]


ZEN4 = {"vendor": "AuthenticAMD", "family": 25, "model": 17, "instructions": ["avx512f"]}
ZEN5 = {**ZEN4, "family": 26}


def measured_on(environment: dict[str, Any]) -> Result:
    return replace(result(a=2.0), environment=environment)


@pytest.mark.parametrize("kind", [ZEN5, None])
def test_a_baseline_of_the_same_kind_of_cpu_is_compared(kind: dict[str, Any] | None) -> None:
    here = {"cpu": "AMD EPYC", "cpu_kind": kind}
    require_same_cpu(measured_on({**here, "cores": 64}), {**here, "cores": 2})


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"cpu": "AMD EPYC", "cpu_kind": ZEN4}, "another kind of CPU .*family 25.*family 26"),
        ({"cpu": "AMD EPYC", "cpu_kind": None}, r"another kind of CPU \(AMD EPYC\).*family 26"),
        ({"cpu": "Intel", "cpu_kind": ZEN5}, "another kind of CPU .*Intel, .*AMD EPYC, "),
        ({"cpu": "AMD EPYC"}, r"does not say of which kind its CPU \(AMD EPYC\) was.*family 26"),
    ],
)
def test_a_baseline_of_another_or_an_unknown_kind_of_cpu_is_refused(
    there: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        require_same_cpu(measured_on(there), {"cpu": "AMD EPYC", "cpu_kind": ZEN5})
    assert "\n" not in str(caught.value)


def test_an_option_says_what_its_start_costs_and_when_it_is_earned_back() -> None:
    speeds = {
        "vaebench": Measurement("vaebench", "images/s", [100.0]),
        "vaebench, compiled": Measurement("vaebench, compiled", "images/s", [200.0]),
        "vaebench, bfloat16": Measurement("vaebench, bfloat16", "images/s", [50.0]),
    }
    # an epoch of 100 images: 1 s, and 0.5 s after a start of 10 s
    first = {"vaebench": {"seconds": 1.0}, "vaebench, compiled": {"seconds": 10.5}}
    first["vaebench, bfloat16"] = {"seconds": 2.0}
    compiled, rounded = _start_up(first, speeds, dict.fromkeys(speeds, 100), "")
    # 10 s at 5 ms an image
    assert "10.0 s more to start, earned back after 2,000 images, 20 s of" in compiled
    assert "never earned back" in rounded


# The work


@pytest.mark.parametrize("model", list(MODELS))
def test_the_limit_does_the_products_of_a_step_and_no_others(model: str) -> None:
    vae = make_vae(model)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    step = products(vae, x, samples=1)
    with FlopCounterMode(display=False) as counter:
        step()
    with FlopCounterMode(display=False) as whole:
        closed_form_kl(vae, x, torch.zeros(1, 3, vae.latent_dim)).bound.mean().backward()
    assert counter.get_total_flops() == whole.get_total_flops()  # autograd skips the same one
    assert counter.get_total_flops() > 2 * 3 * flops_per_image(vae, SHAPE)


@pytest.mark.parametrize("model", list(MODELS))
def test_the_peers_have_pytorchs_own_layers_with_our_weights(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.layers.MIN_WORK", 0)
    given: list[Any] = []
    monkeypatch.setattr("vaebench.layers.onednn_product", lambda *all_: given.append(all_))
    config: dict[str, Any] = {"model": model, "dataset": {"name": "digits", "train": 64}}
    vae = Work("plain loop", config).vae()
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert vae.decode(vae.encoder(x).mean).shape == x.shape
    assert given == []


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_the_peers_minimise_the_same_bound(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = make_vae("fnn", loss)
    vae.likelihood = LIKELIHOODS[loss]()
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(1, 4, vae.latent_dim, generator=torch.Generator().manual_seed(1)).double()
    monkeypatch.setattr(torch, "randn_like", lambda _: noise[0])
    theirs = loss_of(vae, x, loss)
    constant = closed_form_kl(vae, x, noise).bound.mean() + theirs
    pixels = x[0].numel()
    expected = 0.0 if loss == "bce" else -0.5 * pixels * math.log(math.pi)
    assert constant.item() == pytest.approx(expected, abs=1e-9)


class NoMoreTurns(Exception):
    """Instead of the end of the process."""


@pytest.mark.parametrize(
    "name", [name for name in CONTENDERS if "compiled" not in name and not PEERS.get(name)]
)
def test_every_contender_takes_its_turns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "limit, oneDNN" and not AVAILABLE:
        pytest.skip("PyTorch has no oneDNN for this CPU")

    def end(_: int) -> None:
        raise NoMoreTurns

    monkeypatch.setattr(os, "_exit", end)
    out = io.BytesIO()
    # the peers shuffle and draw as their users do, from the global stream
    with torch.random.fork_rng(), pytest.raises(NoMoreTurns):
        CONTENDERS[name](Work(name, RUN), Laps(io.BytesIO(b"go\ngo\n"), out))
    ready, *laps = map(json.loads, out.getvalue().splitlines())
    assert ready == {"ready": True}
    assert len(laps) == 2
    assert all(lap["seconds"] > 0 and lap["cpu_seconds"] > 0 for lap in laps)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, module in PEERS.items() if module])
def test_every_peer_takes_its_turns_in_a_process_of_its_own(name: str) -> None:
    if importlib.util.find_spec(str(PEERS[name])) is None:
        pytest.skip(f"{PEERS[name]} is not installed")
    with _Contender.started(Work(name, RUN)) as contender:
        assert contender.answer() == {"ready": True}
        assert contender.lap()["seconds"] > 0
        assert contender.lap()["seconds"] > 0


@pytest.mark.slow
def test_a_contender_that_dies_says_why() -> None:
    with (
        _Contender.started(Work("nobody", RUN)) as contender,
        pytest.raises(VaebenchError, match="nobody: KeyError: 'nobody'"),
    ):
        contender.answer()


@pytest.mark.slow
def test_a_contender_that_is_killed_between_turns_is_named() -> None:
    with _Contender.started(Work("vaebench", RUN)) as contender:
        contender.answer()
        contender._process.kill()
        contender._process.wait()
        with pytest.raises(VaebenchError, match="vaebench: "):
            contender.lap()


def test_an_epoch_of_less_than_a_batch_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = RUN | {"training": {"batch_size": 71}}
    benchmark = read_benchmark(written(tmp_path, STEPS | {"run": run}))
    with pytest.raises(ConfigError, match="batch_size 71: an epoch has only 70 images"):
        run_benchmark(benchmark, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "cb"},
        {"estimator": {"name": "kl", "samples": 5}},
        {"estimator": "sgvb"},
        {"training": RUN["training"] | {"optimizer": "sgd"}},
        {"training": RUN["training"] | {"beta": 2.0}},
        {"dataset": RUN["dataset"] | {"binarize": "dynamic"}},
    ],
)
def test_what_a_peer_does_not_do_is_not_measured_against_it(
    change: dict[str, Any], tmp_path: Path
) -> None:
    raw = STEPS | {"contenders": ["vaebench", "plain loop"], "run": RUN | change}
    with pytest.raises(ConfigError, match="plain loop does only loss bce or mse, estimator kl"):
        read_benchmark(written(tmp_path, raw))
    read_benchmark(written(tmp_path, raw | {"contenders": ["vaebench"]}))


def test_a_peer_that_is_not_installed_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    benchmark = read_benchmark(written(tmp_path, STEPS | {"contenders": ["pythae"]}))
    with pytest.raises(ConfigError, match=r"x: pythae is not installed: pip install '\.\[ben"):
        require_installed(benchmark, "x")


def test_a_limit_that_this_cpu_has_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = read_benchmark(written(tmp_path, STEPS | {"contenders": ["limit, oneDNN"]}))
    monkeypatch.setattr("experiments.benchmarks.settings.AVAILABLE", False)
    with pytest.raises(ConfigError, match="x: PyTorch has no oneDNN for this CPU"):
        require_installed(benchmark, "x")


def test_processes_import_from_this_checkout_and_do_not_fill_their_users_mlflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid")
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert "MLFLOW_TRACKING_URI" not in environment()
    assert environment()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "mine"]
    assert environment({}) == {"PYTHONPATH": str(ROOT)}


class Imagined:
    """A contender whose epochs of 70 images take seconds that are known."""

    def __init__(self, work: Work) -> None:
        self.name = work.contender
        seconds = {"vaebench": {10: 1.0, 35: 0.5}, "limit": {10: 0.5, 35: 0.4}}
        self._seconds = seconds[self.name][work.run.training.batch_size]

    def answer(self) -> dict[str, bool]:
        return {"ready": True}

    def lap(self) -> dict[str, float]:
        return {"seconds": self._seconds, "cpu_seconds": self._seconds / 2, "peak_mb": 9.0}


def test_turns_are_timed_by_the_clock_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Contender, "started", lambda work: nullcontext(Imagined(work)))
    raw = STEPS | {"clock": "cpu", "sweep": {"training.batch_size": [35]}}
    found = run_benchmark(read_benchmark(written(tmp_path, raw)), tmp_path)
    assert [(each.unit, each.median) for each in found.measurements[:2]] == [
        ("images/CPU s", 280.0),
        ("images/CPU s", 350.0),
    ]
    assert [each.median for each in found.ratios] == [0.8], "more images are better"


def test_a_sweep_measures_every_value_against_its_own_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Contender, "started", lambda work: nullcontext(Imagined(work)))
    sweep = {"sweep": {"training.batch_size": [10, 35]}}
    found = run_benchmark(read_benchmark(written(tmp_path, STEPS | sweep)), tmp_path)
    small, large = "training.batch_size 10: ", "training.batch_size 35: "
    assert {each.name: each.values for each in found.measurements} == {
        f"{small}vaebench": [70.0, 70.0],
        f"{small}limit": [140.0, 140.0],
        f"{small}vaebench: peak of memory": [9.0],
        f"{large}vaebench": [140.0, 140.0],
        f"{large}limit": [175.0, 175.0],
        f"{large}vaebench: peak of memory": [9.0],
    }
    assert {each.name: each.values for each in found.ratios} == {
        f"{small}vaebench / {small}limit": [0.5, 0.5],
        f"{large}vaebench / {large}limit": [0.8, 0.8],
    }


TINY = RUN | {"name": "tiny", "axes": {"model": ["fnn"], "loss": ["bce"], "estimator": ["kl"]}}
GRID = {"name": "small", "kind": "grid", "grid": "grid.yaml", "epochs": 2, "pythae": True}


def test_a_grid_is_timed_with_every_number_of_jobs_and_seeds_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grid.yaml").write_text(dump_yaml(TINY))
    calls: list[str] = []

    def imagined(module: str, *arguments: str, given: bytes = b"") -> tuple[float, bytes]:
        """Trains 4 s in each run; takes 10 s a run alone, 6 s with several workers."""
        if module != "vaebench":
            works = [Work.from_line(line) for line in given.splitlines()]
            assert [work.run.training.epochs for work in works] == [2]
            calls.append(module)
            return 12.0, b""
        told = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        assert arguments[:2] == ("run-grid", str(tmp_path / "grid.yaml"))
        assert "--set=training.epochs=2" in arguments
        for seed in range(int(told["--seeds"])):
            journal = Path(told["--results"], "tiny", "runs", str(seed), "journal.jsonl")
            journal.parent.mkdir(parents=True)
            line = {"metrics": {"train/seconds": 1.5, "val/seconds": 0.5, "val/cpu_seconds": 0.5}}
            line["metrics"]["train/cpu_seconds"] = 1.0
            journal.write_text(f"{json.dumps(line)}\n" * 2)
        calls.append(f"{told['--seeds']}, {told['--jobs']}")
        return int(told["--seeds"]) * (10.0 if told["--jobs"] == "1" else 6.0), b""

    monkeypatch.setattr(commands, "run", imagined)
    monkeypatch.setattr(commands, "default_jobs", lambda _: 2)
    raw = GRID | {"jobs": [1, "auto"], "seeds": [1, 2], "repeats": 2}
    found = run_benchmark(read_benchmark(written(tmp_path, raw)), tmp_path)
    turn, pythae = ["1, 1", "1, auto", "2, 1", "2, auto"], "experiments.benchmarks.peers"
    assert calls == [*turn, pythae, *reversed(turn), pythae]
    one, two = (f"run-grid, {count} runs, jobs" for count in (1, 2))
    other = "pythae, one after the other"
    expected = {f"{one} 1": 10, f"{one} auto": 6, f"{two} 1": 20, f"{two} auto": 12, other: 12}
    assert {each.name: each.values for each in found.measurements} == {
        name: [seconds] * 2 for name, seconds in expected.items()
    }
    assert {each.name: each.median for each in found.ratios} == {
        f"{one} auto / {one} 1": 10 / 6,
        f"{one} auto / {other}": 2,
        f"{two} auto / {two} 1": 20 / 12,
        f"{two} auto / {other}": 1,
    }
    assert [remark.split(": ")[1] for remark in found.remarks[4:]] == [
        f"0.0 s of CPU time, {beyond} s of it besides training and validation"
        for beyond in ("-3.0", "-3.0", "-6.0", "-6.0")  # what is imagined takes none
    ]
    parts = [remark.split(" take ")[1].split()[0] for remark in found.remarks[:4]]
    assert parts == ["150.0%", "50.0%", "150.0%", "200.0%"]  # no more workers than runs


@pytest.mark.slow
def test_a_grid_is_really_run_and_so_are_the_trainings_by_pythae(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(dump_yaml(TINY))
    raw = GRID | {"jobs": ["auto"], "repeats": 1}
    found = run_benchmark(read_benchmark(written(tmp_path, raw)), tmp_path)
    whole, pythae = found.measurements
    assert whole.unit == pythae.unit == "s"
    assert whole.values[0] > 0
    assert pythae.values[0] > 0
    assert len(found.remarks) == 2


@pytest.mark.slow
def test_the_harness_is_timed_on_records_that_its_commands_take_for_real(tmp_path: Path) -> None:
    raw = {"name": "small", "kind": "records", "repeats": 1, "records": 80, "runs": 1}
    found = run_benchmark(read_benchmark(written(tmp_path, raw)), tmp_path)
    assert [each.name for each in found.measurements][:5] == [
        "status, 80 records",
        "report as JSON, 80 records",
        "report as CSV, 80 records",
        "run-grid --dry-run, 80 records",
        "a run of 50 epochs besides training, evaluation, images and models",
    ]


def test_a_part_is_counted_without_the_parts_within_it() -> None:
    clock = Clock()

    def spend(seconds: float) -> None:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    inner = clock.timed("inner", lambda: spend(0.05))

    def outside() -> None:
        inner()
        inner()
        spend(0.02)

    clock.timed("outer", outside)()
    assert clock.seconds["inner"] == pytest.approx(0.1, abs=0.015)
    assert clock.seconds["outer"] == pytest.approx(0.02, abs=0.015)


@pytest.mark.slow
def test_a_run_is_really_measured_part_by_part(tmp_path: Path) -> None:
    raw = {"name": "small", "kind": "parts", "repeats": 1, "run": RUN | {"model": "fnn"}}
    found = run_benchmark(read_benchmark(written(tmp_path, raw)), tmp_path)
    taken = {each.name: each.median for each in found.measurements}
    for name in RUNS:
        parts = [seconds for part, seconds in taken.items() if part.startswith(f"{name}: ")]
        assert sum(parts) == pytest.approx(taken[name])
        assert f"{name}: figures" in taken
        assert taken[name] < taken[START], "what is imported once is no part of a run"
    assert [each.name.partition(" / ")[2] for each in found.ratios] == [TORCH] * 3


# The file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "speed"}, "kind: choose from steps, grid, records, parts"),
        ({"repeats": 0}, "repeats: "),
        ({"contenders": ["keras"]}, "contenders: unknown 'keras'; choose from vaebench"),
        ({"run": {"model": "rnn"}}, "unknown name 'rnn'"),
        ({"nmae": "x"}, "nmae: Extra inputs are not permitted"),
        ({"name": "../x"}, "name: String should match pattern"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, STEPS | change)
    with pytest.raises(ConfigError) as caught:
        read_benchmark(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_committed_benchmarks_are_valid() -> None:
    files = sorted((Path(__file__).parents[1] / "experiments" / "benchmarks").glob("*.yaml"))
    assert len(files) >= 6
    for file in files:
        benchmark = read_benchmark(file)
        assert benchmark.name == file.stem
        assert benchmark.question


# What is written


def test_a_result_survives_its_json_and_shows_every_word_literally(tmp_path: Path) -> None:
    paths = save(result(a=2.0), tmp_path)
    assert [path.name for path in paths] == ["small.json", "small.md", "small.png"]
    assert load_result(paths[0]) == result(a=2.0)
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    shown = paths[1].read_text()
    assert shown == text(result(a=2.0))
    assert r"Is it \| quick?" in shown
    assert r"a \<remark\>" in shown
    assert "| vaebench | 110 | 100 | 1,000 | images/s | 3 |" in shown
    assert r"a \| b, 2 cores, Python 3.11, torch 2." in shown  # of before kinds were known
    known = result(a=2.0)
    known.environment["cpu_kind"] = ZEN5
    assert r"a \| b, AuthenticAMD family 26 model 17, avx512f, 2 cores" in text(known)


NO_ENVIRONMENT = json.dumps(asdict(result(a=2.0)) | {"environment": ["cpu"]})


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"measurements": 1}', NO_ENVIRONMENT])
def test_what_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="not the JSON of a benchmark"):
        load_result(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_result(tmp_path / "none.json")


def call(*arguments: Path | str) -> Any:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.mark.slow
def test_the_command_measures_from_the_root_of_a_checkout(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.benchmarks", written(tmp_path, STEPS)]
    more = ["--output", tmp_path / "out", "--repeats", "1"]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = load_result(tmp_path / "out" / "small.json")
    assert [each.name for each in found.ratios] == ["vaebench / limit"]
    assert all(len(each.values) == 1 for each in found.measurements)
    assert done.stdout.rstrip() == text(found).rstrip()


def test_the_command_compares_and_leaves_with_3_where_a_ratio_fell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = describe("cpu", threads=1, jobs=1)
    now = replace(result(**{"vaebench / limit": 1.0}), environment=here)
    measured: list[Steps] = []

    def measure(benchmark: Steps, _where: Path) -> Result:
        measured.append(benchmark)
        return now

    monkeypatch.setattr(program, "run_benchmark", measure)
    file, output, before = written(tmp_path, STEPS), tmp_path / "out", tmp_path / "before"
    compare = (file, "--output", output, "--compare", before)
    before.mkdir()
    for earlier, code in ((100.0, 3), (0.01, 0)):
        save(replace(now, ratios=[Ratio("vaebench / limit", [earlier])]), before)
        done = call(*compare)
        assert done.exit_code == code, done.output
        assert ("slower: vaebench / limit" in done.stderr) == (code == 3)
        assert load_result(output / "small.json") == now
    assert [each.repeats for each in measured] == [2, 2]
    # what is refused is refused before anything is measured
    save(replace(now, environment=here | {"cpu_kind": {"family": "another"}}), before)
    for arguments, told in (
        (compare, "small: was measured on another kind of CPU"),
        ((file, "--output", output, "--compare", output), "--output would overwrite it"),
        ((file, "--output", output, "--compare", tmp_path / "nowhere"), "cannot be read"),
        (("nothing.yaml",), "nothing.yaml"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2, done.output
        assert told in done.stderr
    done = call(*compare, "--any-cpu")
    assert done.exit_code == 0
    assert done.stderr.startswith("other CPU: baseline small: ")
    assert len(measured) == 2


def test_a_committed_benchmark_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(benchmark: Steps, where: Path) -> Result:
        assert where == ROOT / "experiments" / "benchmarks"
        assert benchmark.repeats == 3
        raise VaebenchError(f"measured {benchmark.name}")

    monkeypatch.setattr(program, "run_benchmark", measure)
    done = call("scaling.yaml", "--repeats", "3", "--output", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == "Error: measured scaling\n"
