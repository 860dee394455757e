"""The notebooks run from the first cell to the last, on data and trainings of a few seconds.

Both run in one kernel of the running interpreter, one after the other, because a kernel imports torch anew.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
TINY = {  # what stands in the cell with the tag "parameters"
    'own_data': """
FOLDER, MINUTES, EXAMPLE_IMAGES = 'data/mine', 1, 8
OPTIONS = '--cfg-options train_cfg.max_iters=2 train_cfg.val_interval=1 default_hooks.checkpoint.interval=1'
""",
    'quickstart': 'IMAGES, VAL_IMAGES, STEPS, VAL_INTERVAL = 8, 2, 2, 1',
}
# The steps of `kovilt train FOLDER` in this process instead of one each; and no variable of the notebook before.
STEPS_HERE = f"""
%reset -f
import sys
sys.path.insert(0, {str(ROOT / 'tests' / 'support')!r})
import pytest
from recipe_steps import run_steps_here
run_steps_here(pytest.MonkeyPatch())
%reset -f
"""


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_installs_on_colab_first(path):
    code = [cell for cell in read(path).cells if cell.cell_type == 'code']
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "'google.colab' in sys.modules" in code[0].source and '%pip install' in code[0].source


def test_the_notebooks_run(tmp_path, monkeypatch):
    assert [path.stem for path in NOTEBOOKS] == sorted(TINY)
    for name in [name for name in os.environ if name.startswith('KOVILT_') and name != 'KOVILT_NO_REPORT']:
        monkeypatch.delenv(name)
    monkeypatch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)
    together = nbformat.v4.new_notebook()
    for path in NOTEBOOKS:
        cells = copy.deepcopy(read(path).cells)
        (parameters,) = (cell for cell in cells if 'parameters' in cell.metadata.get('tags', ()))
        parameters.source = TINY[path.stem]
        together.cells += [nbformat.v4.new_code_cell(STEPS_HERE), *cells]
    client = NotebookClient(together, timeout=300, kernel_name='python3', resources={'metadata': {'path': tmp_path}})
    client.execute()  # raises CellExecutionError with the cell and its traceback
    shown = {kind for cell in together.cells for output in cell.get('outputs', ()) for kind in output.get('data', ())}
    assert {'image/png', 'text/html'} <= shown  # images, and an explanation
    assert (tmp_path / 'model.zip').is_file() and (tmp_path / 'work_dirs' / 'vqa' / 'notebook.png').is_file()
