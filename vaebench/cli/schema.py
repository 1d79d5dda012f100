"""``vaebench schema``: what a record holds, for programs."""

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of `record.json`."""
    import json

    from vaebench.schema.record import Record

    click.echo(json.dumps(Record.model_json_schema(), indent=1))
