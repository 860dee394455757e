"""What measures kovilt's speed, memory and agreement with other implementations; not installed with kovilt.

Every script runs from a checkout, with or without kovilt installed: `python benchmarks/int8.py`. Its docstring, which
`--help` prints, states what is measured, in which unit, and how to read the result. docs/benchmarks.md has the results. What the scripts share: `timing`, `memory`, `flops`, `report`, `fixtures` (models and batches) and
`synthetic_data` (image files and data sets).
"""
