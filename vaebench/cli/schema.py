"""``vaebench schema``: what a record holds, for programs."""

import click

from vaebench.cli.output import echo


@click.command()
def schema() -> None:
    """Print the JSON Schema of `record.json`."""
    import json

    from vaebench.schema.record import Record

    echo(json.dumps(Record.model_json_schema(), indent=1))
