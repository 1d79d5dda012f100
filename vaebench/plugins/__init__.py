"""Components of others: registries that know where each entry comes from, and how code is loaded.

A plugin is a Python file or module that enters its functions into registries at import, and does
nothing else::

    from vaebench import MODELS

    MODELS["mine"] = mine

It is code: it is run only when the user names it (``plugins:`` in a grid file, ``--plugin``), or
has installed it (an entry point in the group ``vaebench.plugins``). No results folder makes it run.

::

    registry   dicts of components by name, which know where each entry comes from
    loading    files, modules and entry points, each loaded once
    source     which code a plugin is: its digest, and the line of it that an error comes from
"""

from vaebench.plugins.loading import (
    is_path,
    known,
    load,
    load_as_there,
    load_installed,
    loaded,
    name_all,
    require_idle,
    told,
    where,
)
from vaebench.plugins.registry import (
    Registry,
    function_of,
    no_instance,
    not_callable,
    place,
)
from vaebench.plugins.source import Plugin

__all__ = [
    "Plugin",
    "Registry",
    "function_of",
    "is_path",
    "known",
    "load",
    "load_as_there",
    "load_installed",
    "loaded",
    "name_all",
    "no_instance",
    "not_callable",
    "place",
    "require_idle",
    "told",
    "where",
]
