"""A package of others registers a model by an entry point, and is found once it is installed."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from plugin_files import MODEL, write

ROOT = Path(__file__).parents[1]
SETTINGS = """
    name: packed
    dataset: {name: digits, train: 64, validation: 32}
    axes: {model: [packed]}
    model: {latent_dim: 2, packed: {width: 8}}
    training: {epochs: 1, batch_size: 24}
"""
LISTED = """
import json
import vaebench
from vaebench.config import make_run

config = make_run({"model": "packed"})
[(plugin, provides)] = config.plugins.items()
print(json.dumps([plugin.name, plugin.distribution, provides]))
"""


@pytest.mark.slow
def test_an_installed_package_is_a_plugin(tmp_path: Path) -> None:
    package = tmp_path / "source"
    write(package / "vaes_of_others" / "__init__.py", "")
    write(package / "vaes_of_others" / "models.py", MODEL.replace("{name}", "packed"))
    write(
        package / "pyproject.toml",
        """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"

        [project]
        name = "vaes-of-others"
        version = "1.2"

        [project.entry-points."vaebench.plugins"]
        packed = "vaes_of_others.models"

        [tool.setuptools]
        packages = ["vaes_of_others"]
        """,
    )
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    purelib = next(environment.glob("lib/python*/site-packages"))
    # it sees the packages that the tests see, and vaebench itself
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (purelib / "seen.pth").write_text("\n".join([*seen, str(ROOT)]), encoding="utf-8")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    inside = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(argument) for argument in (python, *arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=inside, cwd=tmp_path, timeout=300
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    before = call("-c", LISTED, check=False)
    assert "unknown name 'packed'" in before.stderr
    call(*install, package)
    assert json.loads(call("-c", LISTED).stdout) == [
        "vaes_of_others.models",
        "vaes-of-others 1.2",
        ["model packed"],
    ]

    grid = write(tmp_path / "grid.yaml", SETTINGS)
    call("-m", "vaebench", "run-grid", grid, "--results", "results", "--set", "loss=bce")
    [path] = (tmp_path / "results" / "packed" / "runs").glob("*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["status"] == "complete", record["reason"]
    [plugin] = record["plugins"]
    assert plugin["distribution"] == "vaes-of-others 1.2"
    assert call("-m", "vaebench", "repeat", path.parent, "--json").returncode == 0

    broken = purelib / "vaes_of_others" / "models.py"
    broken.write_text("import no_such_module\n", encoding="utf-8")
    done = call("-m", "vaebench", "run-grid", grid, "--dry-run", check=False)
    assert done.returncode == 2
    assert "models.py:1: ModuleNotFoundError" in done.stderr
    assert "vaes-of-others 1.2" in done.stderr
    assert "uninstall" in done.stderr
    call("-m", "vaebench", "report", "results/packed")  # runs no plugin
