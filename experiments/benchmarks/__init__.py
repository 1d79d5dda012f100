"""How fast vaebench is, next to what people would use instead: ratios of what ran in turns.

::

    python -m experiments.benchmarks fnn.yaml        # from the root of a checkout

A benchmark is a YAML file of one kind. ``steps`` lets training loops take turns at the same work,
``grid`` times whole commands, ``records`` times the harness at scale, ``parts`` a run part by part.
Each gives a table, a picture and JSON. Times on a shared machine say little; ratios of contenders
that took turns on it say more, and only ratios are compared with a baseline::

    __main__      the command line
    settings      the file of a benchmark
    measured      measurements, ratios, results; how they are written, read and compared
    chart         the picture
    steps         training loops in turns, each in a process of its own
    contenders    those loops; peers are other people's, limit is the arithmetic alone
    work          what they all do
    commands      whole commands: run-grid with one worker and with many, and pythae
    scale         many records
    many_workers  a simulation: 100,000 runs on 1,000 workers that come and go
    parts         a run's fixed cost, part by part
"""
