"""All rows, in the order of their names."""

from benchmarks.faults import rows_commands, rows_data, rows_ranks, rows_runs, rows_saving, rows_stopping, rows_values
from benchmarks.faults.suite import ROWS as _ROWS

__all__ = [
    'ROWS',
    'rows_commands',
    'rows_data',
    'rows_ranks',
    'rows_runs',
    'rows_saving',
    'rows_stopping',
    'rows_values',
]

ROWS = dict(sorted(_ROWS.items()))
