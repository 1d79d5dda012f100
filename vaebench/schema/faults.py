"""What is said of a file that is not what it should be."""

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """Where and what is wrong first, in a few words."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, fault["loc"]))
    what = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def later(version: int, known: int) -> str:
    """What is said of a file of a version that is not yet known."""
    return f"written by a later vaebench (schema_version {version}, known up to {known}); update it"
