"""From a file that nobody has described to a mapping and feature definitions that fit it.

The way of a file through this room: ``reading`` finds its tables; ``profile`` takes in all rows
once and keeps each column's figures and a bounded sample of rows; ``known`` recognises the headers
of public data sets; ``ids``, ``times``, ``amounts``, ``labels``, ``entities`` and ``attributes``
say which column is what and why; ``leaks`` finds columns that know the truth; ``deciding`` puts
these in order. ``windows`` chooses windows by how often an entity recurs; ``mapping_text`` and
``definitions_text`` write it down, ``summary`` says it on one screen, and ``files`` never
overwrites what a person has edited. ``proposing`` is the use case.

Everything but ``reading``, ``files`` and ``proposing`` is a pure function of column profiles.
"""
