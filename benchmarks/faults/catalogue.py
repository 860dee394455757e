"""All rows, in the order of their names."""

from importlib import import_module

from benchmarks.faults.suite import ROWS as _ROWS

for _name in ('changes', 'commands', 'data', 'ranks', 'runs', 'saving', 'stopping', 'values'):
    import_module(f'benchmarks.faults.rows_{_name}')

ROWS = dict(sorted(_ROWS.items()))
