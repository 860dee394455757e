"""The paper's tables by one command, `python -m reproduction`: plan, trainings, results (docs/en/reproduction.md)."""
