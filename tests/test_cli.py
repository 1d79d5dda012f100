"""The command line: what it prints, where, and with which exit code."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from records import fail as fail_record
from records import make_results, run_dirs
from rich.console import Console
from small_runs import in_this_process_only, numbers, results, settings, task

from vaebench import __version__
from vaebench.cli import main
from vaebench.cli.options import again, seconds
from vaebench.cli.options import settings as option_settings
from vaebench.config import Run as GridRun
from vaebench.datasets import DATASETS
from vaebench.files import dump_yaml
from vaebench.storage import RunStore

Run = Callable[..., Result]
HEAVY = ("torch", "mlflow", "matplotlib", "pandas", "sklearn", "scipy")
VAEBENCH = [sys.executable, "-m", "vaebench"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The command line takes over SIGTERM: give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the command line in an empty folder."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call(*arguments: Any) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A grid file of two small cells."""
    path = tmp_path / "small.yaml"
    axes = {"model": ["fnn"], "loss": ["bce", "mse"]}
    path.write_text(dump_yaml(settings(name="small", axes=axes)))
    return path


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process_only(monkeypatch)


def names(folder: Path = Path()) -> list[str]:
    """What lies in a folder."""
    return [path.name for path in folder.iterdir()]


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        yield f"{path}{name}", command


# ---------------------------------------------------------------- help


def test_the_commands_have_the_names_that_scripts_rely_on() -> None:
    found = {name for name, _ in commands()}
    assert {"run-grid", "train", "status", "report", "ui", "data", "data fetch"} <= found
    assert {"evaluate", "compare", "sync", "repeat"} <= found
    options = {o for p in main.commands["run-grid"].params for o in p.opts}
    assert options >= {
        *("--model", "--loss", "--estimator", "--seeds", "--epochs", "--dataset", "--name"),
        *("--device", "--jobs", "--set", "--results", "--tracking-uri", "--dry-run"),
        *("--fail-fast", "--rerun", "--timeout", "--retries"),
    }


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_has_help_and_says_what_each_option_is_for(name: str, cli: Run) -> None:
    command = dict(commands())[name]
    assert command.help
    assert len(command.help) > 5
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert undocumented == []
    shown = cli(*name.split(), "--help")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Usage: ")
    assert cli(*name.split(), "-h").stdout == shown.stdout


def test_help_names_what_can_be_chosen(cli: Run) -> None:
    text = " ".join(cli("run-grid", "--help").stdout.split())
    for known in (
        "fnn, cnn",
        "bce, mse",
        "sgvb, kl",
        "mnist, fashion-mnist, kmnist, emnist, cifar10, svhn, digits",
    ):
        assert known in text
    fetched = " ".join(cli("data", "fetch", "-h").stdout.split())
    assert f"NAME is one of: {', '.join(DATASETS)}" in fetched


def test_the_version_is_told(cli: Run) -> None:
    assert cli("--version").stdout == f"vaebench {__version__}\n"


@pytest.mark.parametrize(
    "code",
    [
        "import vaebench",
        "from vaebench.cli import main; main(['--help'], standalone_mode=False)",
        "from vaebench.cli import main; main(['run-grid', '--help'], standalone_mode=False)",
        "from vaebench.cli import main; main(['data', 'fetch', '-h'], standalone_mode=False)",
    ],
)
def test_help_and_the_import_of_the_package_load_nothing_heavy(code: str) -> None:
    script = f"import sys\n{code}\nprint('loaded:', [m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("command", [["status"], ["report", "--format", "json"]])
def test_reading_records_loads_neither_torch_nor_mlflow(command: list[str], tmp_path: Path) -> None:
    make_results(tmp_path)
    script = (
        f"import sys\nfrom vaebench.cli import main\n"
        f"main({[*command, str(tmp_path)]!r}, standalone_mode=False)\n"
        f"print('loaded:', [m for m in ('torch', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_package_has_what_it_promises_and_nothing_else() -> None:
    import vaebench

    for name in vaebench.__all__:
        assert getattr(vaebench, name) is not None
    assert vaebench.datasets.load is not None
    with pytest.raises(AttributeError, match="no attribute 'run_gird'"):
        _ = vaebench.run_gird


def test_ui_shows_all_results_or_one_grid_by_its_name(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_results(tmp_path / "out", name="one", seeds=[0])
    shown: list[Path] = []
    monkeypatch.setattr("vaebench.tracking.ui", lambda folder, *_: shown.append(folder))
    out = tmp_path / "out"
    for grid in ([], ["one"], [out / "one"]):
        assert cli("ui", *grid, "--results", out).exit_code == 0
    assert shown == [out, out / "one", out / "one"]
    done = cli("ui", "two", "--results", out)
    assert done.exit_code == 1
    assert "holds no grid 'two'; its grids: one" in done.stderr


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", 3), ("0,", [0]), ("3,", [3]), ("[3]", [3]), ("0,3,7", [0, 3, 7]), ("[0, 3]", [0, 3])],
)
def test_seeds_are_a_number_or_a_list_that_may_hold_one(text: str, seeds: object) -> None:
    options = {"assignments": [], "model": (), "loss": (), "estimator": (), "dataset": None}
    assert option_settings({**options, "epochs": None, "name": None, "seeds": text}) == {
        "seeds": seeds
    }


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["run-gird"], 2, "No such command 'run-gird'"),
        (["run-grid", "--modle", "fnn"], 2, "No such option"),
        (["run-grid", "nothing.yaml"], 2, "'nothing.yaml' does not exist"),
        (["run-grid", "--model", "fnm"], 2, "'fnn'"),
        (["run-grid", "--loss", "msee"], 2, "'mse'"),
        (["run-grid", "--estimator", "sgbv"], 2, "'sgvb'"),
        (["run-grid", "--dataset", "mnits"], 2, "'mnist'"),
        (["run-grid", "--epochs", "0"], 2, "training.epochs: "),
        (["run-grid", "--epochs", "many"], 2, "'many' is not a valid integer"),
        (["run"], 2, "No such command 'run'. Did you mean 'run-grid'?"),
        (["run-grid", "--loss", "bce,mse"], 2, "repeat the option: --loss bce --loss mse"),
        (["run-grid", "--seeds", "0"], 2, "for seed 0 alone use `--seeds 0,`"),
        (["run-grid", "--seeds", "-2"], 2, "a number of seeds is at least 1"),
        (["run-grid", "--set", "seeds=0"], 2, "one seed is a list: [0]"),
        (["run-grid", "--seeds", "1,1"], 2, "a seed is named twice"),
        (["run-grid", "--seeds", "some"], 2, "neither a number nor a list such as 0,3,7"),
        (["run-grid", "--seeds", "1,,2"], 2, "--seeds 1,,2: "),
        (["run-grid", "--set", "training.epochs"], 2, "not KEY=VALUE"),
        (["run-grid", "--set", "=3"], 2, "--set =3: "),
        (["run-grid", "--set", "training.epochs=["], 2, "the value is not YAML"),
        (["run-grid", "--set", "training.epoch=3"], 2, "'epochs'"),
        (["run-grid", "--set", "a b=3"], 2, "unknown key"),
        (["run-grid", "--set", "axes=fnn"], 2, "axes"),
        (["run-grid", "--set", "model.fnn=3"], 2, "model.fnn: "),
        (["run-grid", "--jobs", "0"], 2, "--jobs: '0' is neither a number of runs from 1"),
        (["run-grid", "--jobs", "two"], 2, "--jobs: 'two'"),
        (["run-grid", "--jobs", "-1"], 2, "--jobs: '-1'"),
        (["run-grid", "--timeout", "soon"], 2, "--timeout: 'soon' is no time such as 90"),
        (["run-grid", "--timeout", "0"], 2, "--timeout: '0'"),
        (["run-grid", "--timeout", "-5m"], 2, "--timeout: '-5m'"),
        (["run-grid", "--retries", "-1"], 2, "--retries"),
        (["run-grid", "--device", "gpu"], 2, "device: unknown name 'gpu'"),
        (["run-grid", "--name", "a b"], 2, "name: "),
        (["run-grid", "--rerun", "some"], 2, "'some' is not one of"),
        (["train", "--seed", "-1"], 2, "--seed"),
        (["train", "--seed", str(2**64)], 2, "seed"),
        (["train", "--model", "fnn", "--model", "cnn"], 2, "use `vaebench run-grid`"),
        (["train", "--dataset", "mnits"], 2, "'mnist'"),
        (["report", "nowhere"], 1, "nowhere: "),
        (["report", "."], 1, "Error: .: "),
        (["report", "--format", "pdf"], 2, "'pdf' is not one of"),
        (["status", "."], 1, "Error: .: "),
        (["status"], 1, "Error: results: "),
        (["data", "fetch", "mnits"], 2, "'mnist'"),
        (["data", "fetch"], 2, "Missing argument 'NAME'"),
        (
            ["run-grid", "--dataset", "digits", "--results", "/proc/nowhere", "--epochs", "1"],
            1,
            "/proc/nowhere",
        ),
    ],
)
def test_a_mistake_is_told_in_a_line_or_two_on_stderr_with_its_exit_code(
    cli: Run, arguments: list[str], code: int, told: str
) -> None:
    done = cli(*arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code
    assert told in done.stderr
    assert "Traceback" not in done.output
    lines = [line for line in done.stderr.splitlines() if line]
    assert len([line for line in lines if not line.startswith(("Usage:", "Try '"))]) <= 2
    assert names() == [], "nothing is written"


@pytest.mark.parametrize("command", ["run-grid", "train"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [1", "bad.yaml: not YAML"),
        ("- 1", "bad.yaml: not a mapping"),
        ("modle: fnn", "bad.yaml: modle: "),
        ("axes: fnn", "bad.yaml: "),
        ("", "bad.yaml: is empty"),
        ("training: {epochs: 0, lr: 3}", "bad.yaml: training.epochs: "),
    ],
)
def test_a_file_that_is_wrong_is_named(
    cli: Run, tmp_path: Path, command: str, content: str, told: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    done = cli(command, path)
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert names() == []


def test_without_a_network_the_error_says_what_to_do(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("VAEBENCH_MNIST_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setenv("VAEBENCH_DATA", str(tmp_path / "data"))
    for arguments in (["run-grid"], ["train"], ["data", "fetch", "mnist"]):
        done = cli(*arguments)
        assert done.exit_code == 1
        assert "mnist: cannot download train-images-idx3-ubyte.gz" in done.stderr
        assert "vaebench data fetch mnist" in done.stderr
        assert "--dataset digits" in done.stderr
        assert 1 <= done.stderr.count("\n") <= 3
        assert not isinstance(done.exception, Exception)
    assert names() == []


def test_an_error_in_a_real_process_is_no_traceback_either(tmp_path: Path) -> None:
    done = subprocess.run(
        [*VAEBENCH, "status", str(tmp_path / "nowhere")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- running


def untimed(text: str) -> str:
    """A line of progress, or a text that begins with one, without its time."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", text)


def parsed(text: str) -> list[dict[str, Any]]:
    """JSON lines whose times are in order."""
    events = [json.loads(line) for line in text.splitlines()]
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert all(time.utcoffset() == timedelta(0) for time in times)
    return events


@pytest.mark.usefixtures("light")
def test_json_lines_tell_every_event_with_time_and_run_id(cli: Run, small: Path) -> None:
    planned = cli("run-grid", small, "--device", "cpu", "--dry-run", "--json")
    plan = [event for event in parsed(planned.stdout) if event["event"] == "plan"]
    assert [(event["action"], event["seed"]) for event in plan] == [("run", 0), ("run", 0)]
    log = Path("a log.jsonl")
    done = cli("run-grid", small, "--device", "cpu", "--json", "--log-file", log)
    assert done.exit_code == 0, done.output
    events = parsed(done.stdout)
    runs = {event["run_id"] for event in plan}
    for run_id in runs:
        told = [event for event in events if event.get("run_id") == run_id]
        assert [event["event"] for event in told] == ["started", "epoch", "epoch", "done"]
        assert [event.get("epoch") for event in told] == [None, 1, 2, None]
        assert told[1]["metrics"]["val/elbo"] < 0
        assert told[3]["status"] == "complete"
        assert told[3]["metrics"]["test/elbo"] < 0
    assert events[0]["event"] == "planned"
    assert (events[0]["runs"], events[0]["device"]) == (2, "cpu")
    assert events[-1]["event"] == "end"
    assert (events[-1]["status"], events[-1]["failed"]) == ("done", [])
    assert Path(events[-1]["report"]).exists()
    filed = parsed(log.read_text())
    assert [{**event, "time": ""} for event in filed] == [{**event, "time": ""} for event in events]
    again = cli("run-grid", small, "--device", "cpu", "--log-file", log)  # goes on at its end
    assert "0 runs to do" in again.stdout
    assert log.read_text().startswith(json.dumps(filed[0]))
    assert len(parsed(log.read_text())) == len(filed) + 2  # planned, end


@pytest.mark.usefixtures("light")
def test_a_log_says_which_runs_failed_and_why(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "hot.yaml"
    path.write_text(yaml.safe_dump(settings(model="fnn", training__learning_rate=1e30, seeds=1)))
    done = cli("run-grid", path, "--device", "cpu", "--json", "--loss", "mse")
    assert done.exit_code == 1
    *events, end = parsed(done.stdout)
    failed = [event for event in events if event["event"] == "done"]
    assert {event["status"] for event in failed} == {"failed"}
    assert all("in epoch 1" in event["reason"] for event in failed)
    assert end["status"] == "failed"
    assert end["failed"] == [event["run_id"] for event in failed]


@pytest.mark.usefixtures("light")
def test_a_log_that_cannot_be_written_is_an_error_before_and_none_meanwhile(
    cli: Run, small: Path
) -> None:
    nowhere = cli("run-grid", small, "--log-file", "no/such/folder/log")
    assert nowhere.exit_code == 2
    assert "--log-file: no/such/folder/log: No such file" in nowhere.stderr
    assert not Path("results").exists()
    if not Path("/dev/full").exists():
        return
    full = cli("run-grid", small, "--device", "cpu", "--log-file", "/dev/full")
    assert full.exit_code == 1
    assert "/dev/full: ends early, all else is done: No space left" in full.stderr
    assert Path("results/small/report.md").exists()


@pytest.mark.usefixtures("light")
def test_a_grid_is_run_told_in_plain_lines_and_skipped_the_second_time(
    cli: Run, small: Path
) -> None:
    first = cli("run-grid", small, "--device", "cpu")
    assert first.exit_code == 0, first.output
    assert "\x1b" not in first.output, "no colours or bars where there is no terminal"
    lines = [untimed(line) for line in first.stdout.splitlines()]
    assert lines[0].startswith("2 runs to do on cpu, ")
    assert lines != first.stdout.splitlines(), "a log says when"
    assert any(line.startswith("fnn: ") and "MFLOPs per image" in line for line in lines)
    for loss in ("bce", "mse"):
        told = [line for line in lines if re.match(rf"fnn / {loss}, seed 0 \(\w{{12}}\): ", line)]
        assert [line.partition(": ")[2].split(",")[0] for line in told] == [
            "epoch 1/2",
            "epoch 2/2",
            "complete",
        ]
        assert "val ELBO -" in told[0]
        assert "left" in told[0]
        assert "test ELBO -" in told[2]
        assert "SSIM " in told[2]
    assert "report:  results/small/report.md" in lines
    assert Path("results/small/report.md").exists()
    second = cli("run-grid", small, "--device", "cpu")
    assert second.exit_code == 0
    assert untimed(second.stdout).startswith(
        "0 runs to do on cpu, 1 at a time; 2 skipped: complete"
    )
    assert "epoch" not in second.stdout


@pytest.mark.usefixtures("light")
def test_a_dry_run_shows_what_would_run_and_why_the_rest_is_skipped(cli: Run, small: Path) -> None:
    fresh = cli("run-grid", small, "--dry-run")
    assert fresh.exit_code == 0
    assert names() == []
    assert "2 of 2 runs to do; nothing has been run (--dry-run)." in fresh.stdout
    assert cli("run-grid", small).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    again = cli("run-grid", small, "--dry-run", "--seeds", "2")
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    rows = [line.split() for line in again.stdout.splitlines() if line.count(" fnn / ")]
    assert sorted((row[4], row[5]) for row in rows) == [
        ("0", "skip"),
        ("0", "skip"),
        ("1", "run"),
        ("1", "run"),
    ]
    assert "2 of 4 runs to do" in again.stdout


@pytest.mark.usefixtures("light")
def test_options_beat_the_file(cli: Run, small: Path) -> None:
    done = cli(
        *("run-grid", small, "--loss", "mse", "--epochs", "3", "--seeds", "4,2"),
        *("--set", "model.latent_dim=3", "--set", "training.batch_size=32", "--name", "other"),
        *("--results", "out", "--dry-run"),
    )
    assert done.exit_code == 0, done.output
    assert "2 of 2 runs to do" in done.stdout
    done = cli(
        *("run-grid", small, "--loss", "mse", "--epochs", "3", "--seeds", "4,2"),
        *("--set", "model.latent_dim=3", "--set", "training.batch_size=32", "--name", "other"),
        *("--results", "out", "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    records = [RunStore(path).record for path in sorted(Path("out/other/runs").iterdir())]
    assert len(records) == 2
    for record in records:
        assert record is not None
        config = record["config"]
        assert config["loss"]["name"] == "mse"
        assert config["training"]["epochs"] == 3
        assert config["training"]["batch_size"] == 32
        assert config["model"]["latent_dim"] == 3
    assert sorted(record["seed"] for record in records if record) == [2, 4]


@pytest.mark.usefixtures("light")
def test_other_settings_under_the_same_name_exit_with_2_and_say_what_differs(
    cli: Run, small: Path
) -> None:
    assert cli("run-grid", small).exit_code == 0
    done = cli("run-grid", small, "--epochs", "3")
    assert done.exit_code == 2
    assert "training.epochs: 2 there, 3 here" in done.stderr
    assert "--name" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("light")
def test_a_failed_run_exits_with_1_and_says_which_why_and_how_to_go_on(
    cli: Run, tmp_path: Path
) -> None:
    path = tmp_path / "diverges.yaml"
    raw = settings(
        name="diverges",
        axes={"training.learning_rate": [1e10, 1e-3]},
        model="fnn",
        loss={"name": "mse", "mse": {"output": "linear", "sigma2": 0.01}},
        training__optimizer="sgd",
        training__schedule="constant",
        training__gradient_clip=None,
    )
    path.write_text(dump_yaml(raw))
    done = cli("run-grid", path, "--device", "cpu", "--fail-fast")
    assert done.exit_code == 1
    assert "runs failed:" in done.stdout
    assert "in epoch 1" in done.stdout
    assert not isinstance(done.exception, Exception)
    (command,) = [line for line in done.stdout.splitlines() if line.startswith("just these again")]
    words = shlex.split(command.partition(":  ")[2])
    assert words == [
        *("vaebench", "run-grid", str(path), "--device", "cpu", "--fail-fast"),
        *("--rerun", "failed"),
    ]
    repeated = cli(*words[1:])
    assert untimed(repeated.stdout).startswith("1 run to do on cpu"), repeated.output
    assert repeated.exit_code == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], []),
        (["--rerun", "missing", "--fail-fast"], ["--rerun", "missing", "--fail-fast"]),
        (
            ["--loss", "mse", "--loss", "bce", "--set", "training.epochs=3"],
            ["--loss", "mse", "--loss", "bce", "--set", "training.epochs=3"],
        ),
        (
            ["--results", "my results", "--retries", "2", "--timeout", "2h"],
            ["--results", "my results", "--retries", "2", "--timeout", "2h"],
        ),
        (["--tracking-uri", "http://me:s3cret@there"], ["--tracking-uri", "http://***@there"]),
    ],
    ids=str,
)
def test_the_command_that_does_failed_runs_again_has_the_users_options_and_no_password(
    given: list[str], told: list[str]
) -> None:
    with (
        main.make_context("vaebench", ["run-grid", *given]) as root,
        main.commands["run-grid"].make_context("run-grid", [*given], parent=root),
    ):
        command = again("--rerun", "failed")
    assert shlex.split(command) == ["vaebench", "run-grid", *told, "--rerun", "failed"]


def test_progress_estimates_the_time_from_the_epochs_of_this_call(tmp_path: Path) -> None:
    """A run that resumes after four epochs says nothing of their speed, and fails in the sixth."""
    from vaebench.cli.progress import Progress
    from vaebench.executors import Event
    from vaebench.grid import Planned

    small = task(tmp_path, training__epochs=10)
    text = io.StringIO()
    progress = Progress(Console(file=text, width=200))
    progress.planned([Planned(GridRun(small.cell, small.config), "resume", "")], 1, "cpu")
    small = replace(small, folder=tmp_path / small.config.run_id)
    progress.event(Event("started", small, {}))
    for epoch in (5, 6):
        progress.event(Event("epoch", small, {"epoch": epoch, "metrics": {"train/elbo": -1.0}}))
        time.sleep(0.01)
    (total, one) = progress.bars.tasks
    assert (total.fields["count"], one.fields["count"]) == ("6/10 epochs", "6/10 epochs")
    assert total.completed / total.total == pytest.approx(2 / 6)
    progress.event(Event("done", small, {"status": "failed", "reason": "why"}))
    assert total.completed == total.total
    _, _, fifth, sixth, end = text.getvalue().splitlines()
    assert fifth.endswith("epoch 5/10, train ELBO -1.00 nats; time left: not known yet")
    assert re.search(r"; about 0:00:\d\d left$", sixth)
    assert end.endswith(f"seed 0 ({small.key}): FAILED: why")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        (None, None),
    ],
)
def test_times_have_units(text: str | None, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_train_with_a_stored_configuration_gives_the_same_numbers(
    cli: Run, tmp_path: Path, small: Path
) -> None:
    """Trap 15: rerunning a stored config gives the same first-step loss, and the same all."""
    assert cli("run-grid", small, "--device", "cpu").exit_code == 0
    stores = [RunStore(path) for path in Path("results/small/runs").iterdir()]
    old = stores[0]
    done = cli("train", old.path / "config.yaml", "--results", "again", "--device", "cpu")
    assert done.exit_code == 0, done.output
    (folder,) = Path("again").glob("*/runs/*")
    new = RunStore(folder)
    assert new.run_id == old.run_id
    assert numbers(new.journal) == numbers(old.journal)
    assert new.record is not None
    assert old.record is not None
    assert results(new.record) == results(old.record)
    assert f"folder: {folder}" in done.stdout
    shown = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if "/" in line}
    assert float(shown["test/elbo"]) == pytest.approx(old.record["metrics"]["test/elbo"], rel=1e-5)
    assert cli("train", old.path / "config.yaml", "--results", "again").exit_code == 0
    assert new.record["attempt"] == 1, "it was there"
    rerun = cli("train", old.path / "config.yaml", "--results", "again", "--rerun", "all")
    assert rerun.exit_code == 0, rerun.output
    assert RunStore(folder).attempt == 2


@pytest.mark.usefixtures("light")
def test_train_that_fails_exits_with_1_and_its_reason(cli: Run) -> None:
    done = cli(
        *("train", "--dataset", "digits", "--epochs", "1", "--loss", "mse"),
        *("--set", "loss.mse.output=linear", "--set", "training.learning_rate=1e12"),
        *("--set", "dataset.train=64", "--set", "training.optimizer=sgd", "--device", "cpu"),
    )
    assert done.exit_code == 1
    assert "in epoch 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_the_embedded_data_set_needs_no_download(cli: Run) -> None:
    done = cli("data", "fetch", "digits")
    assert done.exit_code == 0
    assert done.stdout.startswith("digits: ")


# ---------------------------------------------------------------- reading


def test_a_report_goes_to_the_terminal_or_to_a_file(cli: Run, tmp_path: Path) -> None:
    grid = make_results(tmp_path / "results", seeds=(0,))
    shown = cli("report", grid)
    assert shown.exit_code == 0
    assert "| Model | Loss | Estimator |" in shown.stdout.replace("  ", " ")
    told = json.loads(cli("report", tmp_path / "results", "--format", "json").stdout)
    assert len(told["runs"]) == 8
    for format_ in ("md", "csv", "json", "latex"):
        output = Path(f"out/report.{format_}")
        done = cli("report", grid, "--format", format_, "--output", output)
        assert done.stdout == f"wrote {output}\n"
        assert output.stat().st_size > 0


def test_status_counts_the_runs_for_people_and_for_programs(cli: Run, tmp_path: Path) -> None:
    grid = make_results(tmp_path / "results", seeds=(0,))
    first, second, third, *_ = run_dirs(grid)
    fail_record(first, "too hot")
    fail_record(second, "Ctrl-C", status="interrupted")
    for path in third.iterdir():
        path.unlink()
    done = cli("status", tmp_path / "results")
    assert done.exit_code == 0
    assert "5 of 8" in done.stdout
    assert "1 failed" in done.stdout
    (row,) = json.loads(cli("status", tmp_path / "results", "--json").stdout)
    counts = {name: row[name] for name in ("planned", "complete", "failed", "interrupted")}
    assert counts == {"planned": 8, "complete": 5, "failed": 1, "interrupted": 1}


# ---------------------------------------------------------------- stopping


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_a_signal_leaves_everything_consistent_and_the_same_command_goes_on(
    tmp_path: Path, small: Path, sent: signal.Signals, code: int, word: str
) -> None:
    """A grid in two workers for the one, a run in this process for the other."""
    grid = sent == signal.SIGINT
    folder = tmp_path / "results" / "small"
    arguments = ["run-grid", str(small), "--jobs", "2"] if grid else ["train", "--loss", "mse"]
    if not grid:
        arguments += ["--name", "small", "--dataset", "digits", "--set", "dataset.train=64"]
    arguments += ["--results", str(tmp_path / "results"), "--device", "cpu"]
    environment = os.environ | {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"GIT_PYTHON_REFRESH": "quiet"}
    with subprocess.Popen(
        [*VAEBENCH, *arguments, "--epochs", "100000"],
        # what a shell starts in the background, these tests perhaps, is told to ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:

            def under_way() -> bool:
                journals = list(folder.glob(".work/runs/*/*/*/journal.jsonl"))
                return len(journals) == (2 if grid else 1) and all(
                    len(RunStore(path.parent).journal) > 2 for path in journals
                )

            wait_for(under_way, process)
            process.send_signal(sent)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, stderr
    last = stderr.strip().splitlines()[-1]
    assert last == f"{word}: what was running resumes with the same command."
    assert "Traceback" not in stdout + stderr
    stores = [RunStore(path) for path in (folder / "runs").iterdir()]
    for store in stores:
        record = store.record
        assert record is not None
        assert record["status"] == "interrupted"
        assert record["reason"]
        assert record["epochs"] == store.journal[-1]["epoch"] > 2
        checkpoint = store.load_tensors("checkpoint.pt")
        assert checkpoint is not None
        assert checkpoint["epoch"] - store.journal[-1]["epoch"] in (0, 1)
    assert (folder / "report.md").exists()
    plan = CliRunner().invoke(main, [*arguments, "--epochs", "100000", "--dry-run"])
    if grid:
        assert plan.stdout.count(" resume ") == 2
        assert "of 100000" in plan.stdout


@pytest.mark.parametrize(("seeds", "needed"), [("5", "6"), ("6", None)])
def test_claims_that_the_seeds_cannot_decide_are_told_before_training(
    cli: Run, small: Path, seeds: str, needed: str | None
) -> None:
    claim = {"metric": "test/ssim", "better": {"loss": "bce"}, "than": {"loss": "mse"}}
    content = yaml.safe_load(small.read_text()) | {"claims": [claim]}
    small.write_text(yaml.safe_dump(content))
    said = cli("run-grid", small, "--dry-run", "--seeds", seeds).stdout
    assert ("no outcome can decide the 1 claim" in said) is (needed is not None)
    if needed:
        assert f"{seeds} seeds: at least {needed} are needed" in said
