"""``vaebench plugins``, ``new`` and ``check``: components of one's own."""

import keyword
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

import vaebench
from vaebench.cli.options import assigned, plugin_option, registered, set_option
from vaebench.cli.output import echo
from vaebench.errors import ConfigError
from vaebench.files import write_atomic
from vaebench.text import one_line

TEMPLATES = Path(vaebench.__file__).parent / "testing" / "templates"
MAX_SAID = 600  # characters of what a check says
KINDS = {  # and where their built-in names stand
    "model": ("models", "MODELS"),
    "loss": ("likelihoods", "LIKELIHOODS"),
    "estimator": ("estimators", "ESTIMATORS"),
    "dataset": ("datasets", "DATASETS"),
    "metric": ("metrics", "METRICS"),
}


@click.command()
@plugin_option
def plugins(plugins: tuple[str, ...]) -> None:
    """List the models, losses, ... that there are, and where each comes from.

    vaebench's own, those of installed packages, and those of each --plugin.
    """
    from vaebench.config.run import TRAINED_WITH
    from vaebench.declarations import COSTS
    from vaebench.figures import FIGURES
    from vaebench.metrics import METRICS
    from vaebench.plugins import load, loaded

    load(plugins)
    rows = []
    for key, registry in {
        **TRAINED_WITH,
        "metric": METRICS,
        "cost": COSTS,
        "figure": FIGURES,
    }.items():
        for name in registry:
            plugin = registry.plugin(name)
            source = plugin.name if plugin else "vaebench"
            rows.append([one_line(text) for text in (key, name, source, registry.origin(name))])
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *parts, origin in rows:
        padded = [f"{text:<{width}}" for text, width in zip(parts, widths, strict=True)]
        echo("  ".join([*padded, origin]))
    for plugin in loaded():
        packed = f" ({plugin.distribution})" if plugin.distribution else ""
        echo(one_line(f"{plugin.name}{packed}: source {plugin.digest}, {plugin.path}"))


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name", metavar="NAME")
def new(kind: str, name: str) -> None:
    """Write NAME.py, a commented example of a plugin with its test, into the working directory.

    It works at once: change it into your own, and let `vaebench check NAME.py` say what holds.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name[:60]!r} is no name: small letters, digits and _, a letter first")
    if name in registered(*KINDS[kind]):
        raise ConfigError(f"there is a {kind} {name!r} in vaebench; choose another name")
    path = Path(f"{name}.py")
    if path.exists():
        raise ConfigError(f"{path}: is there already; choose another name, or move it away")
    source = (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8")
    camel = "".join(part.title() for part in name.split("_"))
    for old, put in (("example", name), ("Example", camel)):
        source = re.sub(rf"(?<![A-Za-z]){old}(?![a-z])", put, source)
    write_atomic(path, source)
    echo(f"wrote {path}; next: vaebench check {path}")


@click.command()
@click.argument("plugin", metavar="PLUGIN")
@set_option("A configuration key that the check needs, e.g. dataset.mine.path=pictures.")
def check(plugin: str, assignments: tuple[str, ...]) -> None:
    """Check the models, losses, ... of PLUGIN, a file or a module, and list what holds.

    Shapes of odd sizes and several channels, densities that total one, gradients against finite
    differences, no global random state, evaluation independent of the batch, trainings that resume
    bit for bit. PLUGIN is run. Exit code 1 where something does not hold.
    """
    from vaebench.testing import check as execute

    with redirect_stdout(sys.stderr):  # what the plugin prints
        findings = execute(plugin, assigned(assignments))
    entry = None
    for finding in findings:
        if finding.entry != entry:
            echo(one_line(finding.entry))
            entry = finding.entry
        if finding.fault is not None:
            echo(f"  FAILS  {one_line(f'{finding.what}: {finding.fault}', MAX_SAID)}")
        else:
            remark = f" ({finding.remark})" if finding.remark else ""
            echo(f"  holds  {one_line(f'{finding.what}{remark}', MAX_SAID)}")
    failed = sum(finding.fault is not None for finding in findings)
    echo(f"{len(findings) - failed} of {len(findings)} hold")
    if failed:
        sys.exit(1)
