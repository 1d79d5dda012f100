"""Known mistakes, planted one at a time in a copy of the project: does a test notice each?

``make mutants`` runs it; pytest neither collects nor runs it, except for ``tests/test_mutants.py``,
which sees to it that every mutant can still be planted. ``catalogue.txt`` is the list, ``mutant``
what an entry is, ``trial`` a copy and pytest in it (with ``child`` as its process), ``__main__``
the command.

To add a mistake, add an entry to ``catalogue.txt``. If nothing catches it, first make sure that it
is a mistake and not another way to write the same program, then write the test that is missing.
"""
