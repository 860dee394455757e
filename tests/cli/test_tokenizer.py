import pytest

from kovilt.cli.main import main
from kovilt.datasets import load_tokenizer
from tests.support.pair_data import Data


def run(*arguments) -> int:
    return main(['tokenizer', *map(str, arguments)])


def test_it_trains_on_captions_questions_and_text_without_images(tmp_path, capsys):
    captions, questions = Data(tmp_path / 'captions'), Data(tmp_path / 'questions')
    captions.captions()
    questions.living(write_images=False)
    (tmp_path / 'more.txt').write_text('\ufeff탁자 밑에 공이 보여요\n\n탁자 밑에 책이 보여요\n', 'utf-8')
    out, sources = tmp_path / 'korean', ['--captions', captions.root, '--questions', questions.root]
    arguments = [out, '--vocab-size', 120, *sources, '--text', tmp_path / 'more.txt']
    assert run(*arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(' tokens')
    tokenizer = load_tokenizer(out)
    for text in ('소파 위에 고양이가 있다.', '의자는 몇 개예요?', '탁자 밑에'):
        assert tokenizer.unk_token_id not in tokenizer(text)['input_ids']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['out', '--vocab-size', '100'], 'error: nothing to train on'),
        (['out', '--vocab-size', '100', '--captions', 'nowhere'], 'error: data_root nowhere: no such folder'),
        (['out', '--vocab-size', '100', '--text', 'nowhere.txt'], 'error: nowhere.txt: no such file'),
        (['out', '--vocab-size', 'many', '--text', 'x'], 'error: argument --vocab-size'),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = run(*arguments)
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    shown = capsys.readouterr().err
    assert code == 2 and shown.startswith(message) and len(shown.splitlines()) == 1
    assert not list(tmp_path.iterdir())
