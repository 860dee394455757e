"""The steps and results of `tools/quickstart.py` and `tools/reproduce.py`, and what runs the steps."""
