"""The cell space of DARTS: a normal and a reduction cell, two inputs per node, eight operations per edge."""
