"""Scripts that measure kovilt's speed, memory and agreement with other implementations; not installed with kovilt.

Every script runs in a checkout, with or without kovilt installed: `python -m benchmarks.precision`. Its docstring,
which `--help` prints, states what is measured, in which unit, and how to read the result. The results stand in
docs/en/benchmarks.md.

Shared by the scripts: `timing`, `memory`, `flops`, `report` (tables), `fixtures` (models and batches) and
`synthetic_data` (image files and data sets).
"""
