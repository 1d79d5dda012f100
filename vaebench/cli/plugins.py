"""``vaebench plugins``: what is registered, and from where."""

import click

from vaebench.cli.options import plugin_option
from vaebench.cli.output import echo


@click.command()
@plugin_option
def plugins(plugins: tuple[str, ...]) -> None:
    """List the models, losses, ... that there are, and where each comes from.

    vaebench's own, those of installed packages, and those of each --plugin.
    """
    from vaebench.config.run import TRAINED_WITH
    from vaebench.declarations import COSTS
    from vaebench.metrics import METRICS
    from vaebench.plugins import load, loaded
    from vaebench.text import one_line

    load(plugins)
    rows = []
    for key, registry in {**TRAINED_WITH, "metric": METRICS, "cost": COSTS}.items():
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
