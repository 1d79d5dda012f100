"""What ran where: never an error, nothing private, and a device that is really there."""

import getpass
import json
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebench import environment
from vaebench.cpu import cpu_kind
from vaebench.environment import DEVICES, describe, git_state, peak_memory, resolve_device
from vaebench.errors import ConfigError
from vaebench.executors import worker_environment
from vaebench.layers import ONEDNN


def no_accelerator(
    monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(False, False, "cpu"), (True, False, "cuda"), (False, True, "mps"), (True, True, "cuda")],
)
def test_auto_is_the_best_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str
) -> None:
    no_accelerator(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device("auto") == best
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error_that_says_what_to_use(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    no_accelerator(monkeypatch)
    with pytest.raises(ConfigError, match=f"device: {name} is not on this machine; use"):
        resolve_device(name)


def test_an_unknown_device_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown name 'gpu'") as caught:
        resolve_device("gpu")
    assert all(name in str(caught.value) for name in DEVICES)


def test_the_description_says_what_ran_where() -> None:
    found = describe("cpu", threads=1, jobs=3)
    assert (found["device"], found["threads"], found["jobs"]) == ("cpu", 1, 3)
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["packages"]["mlflow"] is not None
    assert found["packages"]["scipy"] is not None  # the Fréchet distance is made with it
    assert found["arithmetic"] == {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "linear": "oneDNN" if ONEDNN else "PyTorch",
    }
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["device_name"] == found["cpu"]
    assert found["cpu_kind"] == cpu_kind()
    assert json.loads(json.dumps(found)) == found


def test_the_description_holds_neither_the_machine_nor_the_user_nor_a_path() -> None:
    text = json.dumps(describe("cpu", threads=1, jobs=1))
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path(environment.__file__).parents[1]) not in text
    if len(getpass.getuser()) > 4:  # "root" may well be part of a word
        assert getpass.getuser() not in text


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no-such-package"))
    packages = describe("cpu", threads=1, jobs=1)["packages"]
    assert packages["no-such-package"] is None
    assert packages["torch"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_commit_of_a_checkout_is_known_and_whether_it_is_changed(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    module = package / Path(environment.__file__).name
    module.write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    assert git_state(package) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "elsewhere").write_text("not the package's business")
    assert git_state(package) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    module.write_text("2\n")
    assert git_state(package) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": True}


def test_a_package_installed_below_somebody_elses_checkout_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / Path(environment.__file__).name).write_text("1\n")
    assert git_state(package) is None


def test_without_git_there_is_no_commit_and_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() is None


@pytest.mark.skipif(sys.platform != "linux", reason="a peak per run is measured on Linux only")
def test_peak_memory_sees_what_was_allocated_since_it_was_started_and_nothing_before() -> None:
    size = 200 * 2**20
    early = torch.ones(size // 4)  # touched, so that it is resident
    del early
    peak = peak_memory("cpu")
    before = peak()
    assert before is not None
    if before == 0:
        pytest.skip("this kernel does not let a process reset its high-water mark")
    late = torch.ones(size // 4)
    del late
    after = peak()
    assert after is not None
    assert 150 < after - before < 400


def test_peak_memory_is_none_where_it_cannot_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory("cpu")() is None
    monkeypatch.setattr(sys, "platform", "linux")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refused)
    assert peak_memory("cpu")() is None


@pytest.mark.slow
def test_in_a_worker_the_peak_has_nothing_of_what_an_earlier_run_has_freed() -> None:
    program = """if True:
        import torch
        from vaebench.environment import peak_memory
        early = [torch.ones(2**18) for _ in range(200)]  # 1 MB each, which the process keeps
        del early
        before = peak_memory("cpu")()
        late = [torch.ones(2**18) for _ in range(200)]
        print(before, peak_memory("cpu")())
    """
    done = subprocess.run(
        [sys.executable, "-c", program], env=worker_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, done.stdout.split())
    if before == 0:
        pytest.skip("this kernel does not let a process reset its high-water mark")
    assert after - before > 150
