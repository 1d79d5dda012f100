"""``make chaos``: kill vaebench wherever it can be killed, start it again, compare with a run that
nothing disturbed.

::

    shots      what is killed, in which phase, how: drawn from a seed
    site       loaded into every process of vaebench by its ``sitecustomize``: fires the shots
    launch     one start of the command, with the shots that may hit it
    grids      a grid, started until it is finished, by one process or as shards
    published  what is published stays published: watched while shards are done
    compare    a finished grid against the undisturbed one; MLflow's store against the journals
    damage     files that a crash of the machine leaves: torn, empty, garbled
    disks      a disk that is full, and one that is read-only

vaebench knows nothing of all this. To add a phase: its files or functions in ``site``, and its name
in ``shots.PHASES``.
"""
