"""The verb writes the files, prints where the model looks, and refuses bad input in one line."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import ANSWERS, tiny_checkpoint

from kovilt.apis import VQAInferencer
from kovilt.apis.explanation import FILES
from kovilt.weights import folder_info

QUESTION = '의자가 있어요 ?'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('explain')
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'room.png')
    return tiny_checkpoint(folder), folder / 'room.png'


def test_it_writes_and_prints_what_the_api_finds(files, call, tmp_path):
    model, image = files
    found = VQAInferencer(model)
    best = found(image, QUESTION)[0]['answer']
    other = next(answer for answer in ANSWERS if answer != best)
    explanation = found.explain(image, QUESTION, other)
    code, out, error = call('explain', model, image, QUESTION, '--answer', other, '--out', tmp_path / 'out')
    assert code == 0 and error.startswith(f'{model} (')
    lines = out.splitlines()
    assert lines[0] == QUESTION and lines[1] == f'  {other}  {100 * explanation.score:.2f} %'
    assert lines[2] == f'  the model answers {best}'
    total = explanation.patch_relevance.sum() + explanation.token_relevance.sum()
    assert lines[3].startswith(f'relevance: image {100 * explanation.patch_relevance.sum() / total:.1f} %, 의자가 ')
    row, column = explanation.most_relevant_patch
    left, top, right, bottom = explanation.patch_box(row, column)
    where = f'row {row + 1}, column {column + 1} of 4 x 6, pixels {left} to {right} across and {top} to {bottom} down'
    assert lines[4].startswith(f'most relevant patch: {where}: ')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(FILES)
    code, out, _ = call('explain', model, image, QUESTION, '--out', tmp_path / 'out')
    assert code == 0 and out.splitlines()[1].startswith(f'  {best}  ') and 'the model answers' not in out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('none', 'IMAGE', QUESTION), 'error: none: no such model folder or checkpoint'),
        (('MODEL', 'none.jpg', QUESTION), 'error: none.jpg: no such file'),
        (('MODEL', 'IMAGE', '...'), "error: question: '...' is punctuation only"),
        (('MODEL', 'IMAGE', QUESTION, '--answer', '초록'), "error: answer '초록': none of the 5 answers of the model"),
        (('MODEL', 'IMAGE'), 'error: the following arguments are required: question'),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(files, call, tmp_path, arguments, message):
    known = {'MODEL': files[0], 'IMAGE': files[1]}
    arguments = [known.get(argument, argument) for argument in arguments]
    code, out, error = call('explain', *arguments, '--out', tmp_path / 'out')
    assert (code, out) == (2, '') and error.startswith(message) and error.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_a_graph_is_refused_before_it_is_opened(files, call, tmp_path, monkeypatch):
    (tmp_path / folder_info.INFO).write_text('{}')
    monkeypatch.setattr(folder_info, 'read_folder_info', lambda path: {'graph': {'format': 'pt2'}})
    code, _, error = call('explain', tmp_path, files[1], QUESTION)
    assert code == 2 and error.startswith(f'error: {tmp_path}: holds a graph, which has no gradients')


def test_the_commands_and_the_code_of_its_page(files, call, tmp_path, monkeypatch, capsys):
    """Which are the same in both languages."""
    pages = [Path(__file__).parents[2] / 'docs' / language / 'explain.md' for language in ('en', 'ko')]
    english, korean = (re.findall(r'^```(\w+)\n(.*?)^```$', page.read_text('utf-8'), re.M | re.S) for page in pages)
    assert english == korean and [kind for kind, _ in english] == ['bash', 'python', 'sh']
    monkeypatch.chdir(tmp_path)
    Image.open(files[1]).convert('RGB').save('room.jpg')
    for line in english[0][1].splitlines():
        command, *arguments = shlex.split(line.replace('work_dirs/quickstart/model', str(files[0])))
        assert command == 'kovilt' and call(*arguments)[0] == 0, line
    assert {path.parent.name for path in Path('work_dirs').glob('*/explanation.html')} == {'explanation', 'red'}
    exec(english[1][1].replace('work_dirs/quickstart/model', str(files[0])), {})
    assert re.match(r'\S+( \S+)? \(4, 6\) \{', capsys.readouterr().out)
