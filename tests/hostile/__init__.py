"""Hostile results folders: ``make hostile`` takes them through every command that reads.

``places`` makes a whole results folder, ``shapes`` says what is done to a file of it, ``commands``
what reads it and what may come of that; ``trials`` does it in processes of their own, with a limit
of time and of memory, and looks whether anything outside was read or changed.
"""
