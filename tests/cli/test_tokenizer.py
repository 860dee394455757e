import planted_faults
import pytest

from kovilt.cli.main import main
from kovilt.datasets import load_tokenizer
from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.verification import sources_of_folder
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
    'kind', [planted_faults.plain, planted_faults.living, planted_faults.kvqa, planted_faults.vqav2]
)
def test_it_trains_on_every_data_set_that_verification_recognizes(tmp_path, kind):
    data = Data(tmp_path / 'data')
    kind(data)
    assert run(tmp_path / 'korean', '--vocab-size', 200, '--data', data.root) == 0
    tokenizer = load_tokenizer(tmp_path / 'korean')
    texts = [text for source in sources_of_folder(str(data.root), None) for text in rows_of(source) if source.training]
    assert texts and count_tokens(tokenizer, texts).unknown_share == 0


def test_columns_of_a_table(tmp_path, capsys):
    data = Data(tmp_path / 'data')
    data.write('train.jsonl', '{"사진": "a.png", "질문": "소파는 무슨 색이에요?", "정답": "빨간색"}\n' * 3)
    arguments = [tmp_path / 'korean', '--vocab-size', 200, '--data', data.root]
    assert run(*arguments) == 2 and '--columns image=사진 question=질문 answer=정답' in capsys.readouterr().err
    assert run(*arguments, '--columns', 'image=사진', 'question=질문', 'answer=정답') == 0
    assert count_tokens(load_tokenizer(tmp_path / 'korean'), ['소파는 무슨 색이에요?']).unknown_share == 0


def rows_of(source):
    return source.reader(**source.options).read_rows().texts()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['out', '--vocab-size', '100'], 'error: nothing to train on'),
        (
            ['out', '--vocab-size', '100', '--text', 'x', '--columns', 'image=a'],
            'error: --columns names the columns of',
        ),
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
