"""Promises of SECURITY.md that can be read off the source: what the package never calls."""

import ast
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaebench
from vaebench.tracking import server

PACKAGE = Path(vaebench.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "tarfile"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.exec", "os.spawn"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.unsafe_load", "yaml.full_load"),
    *("yaml.load_all", "torch.hub.load", "shutil.unpack_archive", "pandas.read_pickle"),
}


def name_of(node: ast.expr) -> str:
    """``torch.load`` of the function of a call."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def dangers(source: str) -> Iterator[str]:
    """What in a module could run what it reads, or write where an archive says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            yield from (f"import of {m}" for m in modules & FORBIDDEN_MODULES)
            # ctypes under its own name only, so that its calls are seen below
            if "ctypes" in modules and ast.unparse(node) != "import ctypes":
                yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
        # ctypes may speak to this process, and load nothing into it
        whole = ast.unparse(node)
        if whole.startswith("ctypes.") and not whole.startswith("ctypes.CDLL(None)"):
            yield name
        if name in FORBIDDEN_CALLS or name.endswith((".extractall", ".extract")):
            yield name
        if name == "torch.load" and given.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield "np.load without allow_pickle=False"
        if name == "yaml.load" and "Safe" not in given.get("Loader", ""):
            yield "yaml.load without a safe loader"
        if given.get("shell", "False") != "False":
            yield "shell=True"
        if name == "mlflow.pytorch.save_model" and given.get("serialization_format") != "'pt2'":
            yield "an MLflow model with pickle"


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import torch\ntorch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t, Loader=yaml.Loader)",
        "yaml.load(t, yaml.Loader)",
        "yaml.unsafe_load(t)",
        "pickle.loads(b)",
        "from joblib import load",
        "import tarfile",
        "from ctypes import CDLL",
        "import ctypes as c",
        "ctypes.CDLL(path)",
        "ctypes.cdll.LoadLibrary(path)",
        "archive.extractall(folder)",
        "subprocess.run(c, shell=True)",
        "os.system(c)",
        "mlflow.pytorch.save_model(m, p)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(dangers(source))


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(PACKAGE)) for p in SOURCES])
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


# What opens a file by its name, by the last part of the call's name. Methods of paths among them.
OPENING = {
    *("open", "read_text", "read_bytes", "fdopen", "copyfile", "copy", "copy2", "copytree"),
    *("load_library", "imread", "safe_open", "memmap", "fromfile", "loadtxt", "genfromtxt"),
    *("FileLock", "SoftFileLock", "mkfifo", "urlopen", "connect", "log_artifact", "log_artifacts"),
    *("log_model_artifacts", "log_image", "log_dict", "log_text"),
}
# Calls that open nothing unless they are given a name instead of what is open already.
GIVEN = {
    "np.load",
    "torch.load",
    "zipfile.ZipFile",
    "PIL.Image.open",
    "Image.open",
    "gzip.open",
    "archive.open",
}
OPEN_ALREADY = {
    *("file", "buffer", "content", "entry"),
    *("io.BytesIO(content or b'')", "io.BytesIO(content)"),
}
# Why a module may open what it opens: nobody else makes these, or they are not opened here.
MAY_OPEN = {
    "files.py": {"os.open", "os.fdopen", "temporary.open", "FileLock"},
    "datasets/embedded.py": {"np.loadtxt"},  # a file of scikit-learn's
    "plain_yaml.py": {"path.open"},  # the configuration that the user names
    "cli/options.py": {"source.read_text"},  # the package itself
    "cli/log.py": {"path.open"},  # the log that the user names, to append
    "cli/output.py": {"os.open"},  # /dev/null
    "cli/plugins.py": {"(TEMPLATES / f'{kind}.py').read_text"},  # the package itself
    "tracking/views.py": {"Path(__file__).with_name('views.json').read_text"},
    "report/page/bundle.py": {  # the package itself
        "(HERE / 'js' / name).read_text",
        "(HERE / name).read_text",
    },
    "cpu.py": {"source.read_text"},  # /proc
    "environment.py": {"Path('/proc/self/status').read_text"},
    # what it writes itself, and a new file in a folder of its own
    "storage/archives.py": {"temporary.open", "target.open"},
    "storage/mounts.py": {"MOUNTS.read_text"},
    "storage/processes.py": {"BOOT.read_text", "Path(f'/proc/{pid}/stat').read_text"},
    "storage/runs.py": {"self._journal.open"},  # to append, once it is a plain file of one name
    "executors/worker.py": {"os.fdopen"},  # pipes
    "executors/ray_node.py": {"path.read_bytes"},  # the package itself
    "executors/ray_results.py": {"self._archive.open"},  # a new file, to write
    "forking.py": {"os.fdopen"},  # pipes
    "datasets/download.py": {"urllib.request.urlopen"},  # in a thread that is watched
    "tracking/server.py": {"direct.open", "connect"},  # the server that was started
    "tracking/replay.py": {"connect"},  # a window: it opens nothing
    "grid/__init__.py": {"connect"},
    "tracking/own_files.py": {"sqlite3.connect"},  # once it is no link; to read
    "tracking/store.py": {"sqlite3.connect"},  # the store that was just made
    "tracking/staging.py": {"target.open", "image.copy"},  # in a folder of our own, in memory
    "tracking/client.py": {"self.mlflow.log_artifacts"},  # of what was staged
    "tracking/models.py": {"client.log_model_artifacts"},  # of what was just made
}


def opened(source: str) -> Iterator[str]:
    """Calls in a module that open a file by its name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in GIVEN:
            if not node.args or ast.unparse(node.args[0]) not in OPEN_ALREADY:
                yield name
        elif name.rpartition(".")[2] in OPENING:
            yield name


@pytest.mark.parametrize(
    "source",
    [
        "open(p)",
        "p.open('rb')",
        "p.read_text()",
        "(a / b).read_bytes()",
        "np.load(path)",
        "torch.load(path, weights_only=True)",
        "zipfile.ZipFile(path)",
        "PIL.Image.open(path)",
        "shutil.copyfile(a, b)",
        "FileLock(path)",
        "safe_open(path, framework='pt')",
        "client.log_artifact(run, path)",
    ],
)
def test_the_search_finds_what_opens_a_file(source: str) -> None:
    assert list(opened(source))


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(PACKAGE)) for p in SOURCES])
def test_nothing_but_files_opens_what_others_may_have_made(path: Path) -> None:
    allowed = MAY_OPEN.get(path.relative_to(PACKAGE).as_posix(), set())
    assert set(opened(path.read_text(encoding="utf-8"))) == allowed


def test_no_module_but_plain_yaml_reads_yaml() -> None:
    readers = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if re.search(r"(?<!plain_)yaml\.(safe_)?load", path.read_text(encoding="utf-8"))
    }
    assert readers <= {"cli/options.py"}, "read by vaebench.plain_yaml"


def test_the_page_of_mlflow_is_bound_to_loopback() -> None:
    assert ipaddress.ip_address(server.HOST).is_loopback
    source = Path(server.__file__).read_text(encoding="utf-8")
    assert '"--host", HOST' in source
    assert "0.0.0.0" not in source
