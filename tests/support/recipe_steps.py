"""Steps of a recipe that run in this process, which has everything imported."""

import pytest

from kovilt.cli.main import main
from kovilt.recipes import steps


def run_steps_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every step run in this process from now on; returns a list that grows by the name of each."""
    ran: list[str] = []

    def run(self: steps._StepRun) -> tuple[int, str]:
        ran.append(self.step.name)
        return main(list(self.step.command[2:])), ''

    monkeypatch.setattr(steps._StepRun, '_run_command', run)
    return ran
