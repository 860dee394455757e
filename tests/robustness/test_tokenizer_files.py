"""A tokenizer from a stranger neither takes long nor fills the memory, and nothing of it is run or panics."""

import base64
import copy
import json
import os
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kovilt.datasets import tokenizer_files
from kovilt.datasets.tokenizer_files import check_tokenizer_json
from kovilt.datasets.transforms.text import TokenizeKorean, load_tokenizer
from kovilt.errors import KoviltError

SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
TEXTS = ['고양이가 의자 위에 앉아 있습니다', '하늘은 무슨 색입니까', '사진에 자동차가 몇 대 있어요'] * 3


def wordpiece():
    return json.loads(tiny_tokenizer().backend_tokenizer.to_str())


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(' ', '▁')])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(special_tokens=SPECIAL, unk_token='[UNK]', vocab_size=60, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return json.loads(tokenizer.to_str())


def bpe():
    tokenizer = Tokenizer(models.BPE(unk_token='[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=SPECIAL, show_progress=False))
    return json.loads(tokenizer.to_str())


FILES = {'WordPiece': wordpiece(), 'Unigram': unigram(), 'BPE': bpe()}


def regex(expression):
    return {'type': 'Split', 'pattern': {'Regex': expression}, 'behavior': 'Isolated', 'invert': False}


def replace(old, new, form='String'):
    return {'type': 'Replace', 'pattern': {form: old}, 'content': new}


def sequence(*components):
    return {'type': 'Sequence', 'normalizers': list(components)}


def charsmap(trie, texts=b'x\0'):
    content = len(trie).to_bytes(4, 'little') + trie + texts
    return {'type': 'Precompiled', 'precompiled_charsmap': base64.b64encode(content).decode()}


ONE_UNIT = bytes([0, 0, 0, 0]) * 256  # a trie whose root leads nowhere


def written(tmp_path, content):
    (tmp_path / 'tokenizer.json').write_text(json.dumps(content), encoding='utf-8')
    return tmp_path / 'tokenizer.json'


REFUSED = {
    '(a+)+$': dict(pre_tokenizer=regex('(a+)+$')),
    'nested in sequences': dict(
        pre_tokenizer={'type': 'Sequence', 'pretokenizers': [{'type': 'Whitespace'}, regex('(a|aa)+$')]}
    ),
    'polynomial': dict(pre_tokenizer=regex('a*a*a*a*a*b')),
    'back reference': dict(pre_tokenizer=regex(r'(x+)\1+y')),
    'lookbehind': dict(pre_tokenizer=regex('(?<=a+)b')),
    'matches the empty text': dict(normalizer=replace('x*', 'y', 'Regex')),
    'broken expression': dict(pre_tokenizer=regex('[')),
    'huge repetition': dict(pre_tokenizer=regex('a{1,100000000}')),
    'in the decoder': dict(decoder=replace('(a+)+$', '', 'Regex')),
    'multiplies': dict(normalizer=sequence(*[replace('가', '가가')] * 30)),
    'multiplies by an expression': dict(normalizer=replace('.', 'xx', 'Regex')),
    'empty pattern': dict(normalizer=replace('', 'x')),
    'empty split': dict(pre_tokenizer=dict(regex('x'), pattern={'String': ''})),
    'long content': dict(normalizer=replace('가' * 100, '나' * 100)),
    'long prepend': dict(normalizer={'type': 'Prepend', 'prepend': '▁' * 10_000_000}),
    'NFKC and back': dict(normalizer=sequence(*[{'type': 'NFKC'}, replace('ص', 'ﷺ')] * 10)),
    'many components': dict(normalizer=sequence(*[{'type': 'Strip', 'strip_left': True, 'strip_right': True}] * 1000)),
    'deep sequences': dict(normalizer=json.loads('{"type":"Sequence","normalizers":[' * 200 + ']}' * 200)),
    'Sequence of nothing': dict(normalizer={'type': 'Sequence'}),
    'unknown kind': dict(normalizer={'type': 'Python', 'code': 'import os'}),
    'kind of another part': dict(normalizer={'type': 'Metaspace', 'replacement': '▁'}),
    'FixedLength of 0, a panic': dict(pre_tokenizer={'type': 'FixedLength', 'length': 0}),
    'no type': dict(normalizer={}),
    'a list': dict(normalizer=[]),
    'text': dict(pre_tokenizer='BertPreTokenizer'),
    'number as type': dict(model={'type': 5}),
    'WordLevel': dict(model={'type': 'WordLevel', 'vocab': {'[UNK]': 0}, 'unk_token': '[UNK]'}),
    'no model': dict(model=None),
    'empty charsmap, a panic': dict(normalizer={'type': 'Precompiled', 'precompiled_charsmap': ''}),
    'no base64': dict(normalizer={'type': 'Precompiled', 'precompiled_charsmap': '!'}),
    'cut charsmap, a panic': dict(normalizer=charsmap(b'\0' * 4)),
    'wild trie, a panic': dict(normalizer=charsmap(b'\xff' * 1024)),
    'trie to wild text, a panic': dict(normalizer=charsmap(bytes([0, 1, 0, 0]) + b'\x09\0\0\x80' * 255)),
    'texts that are no UTF-8, a panic': dict(normalizer=charsmap(ONE_UNIT, b'\xff\0')),
    'charsmap that expands': dict(normalizer=charsmap(ONE_UNIT, b'x' * 100_000 + b'\0')),
    'added token twice': dict(added_tokens=[{'id': 50, 'content': 'z'}, {'id': 51, 'content': 'z'}]),
    'added token without text': dict(added_tokens=[{'id': 50, 'content': ''}]),
    'added tokens as text': dict(added_tokens='z'),
    'added tokens as a number': dict(added_tokens=5),
}
REFUSED_MODELS = {
    'unk_id beyond': ('Unigram', dict(unk_id=10**6)),
    'unk_id true': ('Unigram', dict(unk_id=True)),
    'no tokens': ('Unigram', dict(vocab=[])),
    'a token twice': ('Unigram', dict(vocab=FILES['Unigram']['model']['vocab'] * 2)),
    'an id twice': ('WordPiece', dict(vocab=dict.fromkeys(FILES['WordPiece']['model']['vocab'], 0))),
    'ids as text': ('WordPiece', dict(vocab={'[UNK]': '0'})),
    'negative ids': ('WordPiece', dict(vocab={'[UNK]': -1})),
    'vocabulary as list': ('WordPiece', dict(vocab=['[UNK]'])),
    'long words': ('WordPiece', dict(max_input_chars_per_word=10**12)),
    'length as text': ('WordPiece', dict(max_input_chars_per_word='100')),
    'long prefix': ('WordPiece', dict(continuing_subword_prefix='#' * 1_000_000)),
    'long suffix': ('BPE', dict(end_of_word_suffix='/' * 1_000_000)),
    'dropout': ('BPE', dict(dropout=0.5)),
}
# The tokenizers library refuses these itself, or check_korean does.
REFUSED_LATER = {
    'unknown version': ('WordPiece', dict(version='9.9')),
    'merges of unknown tokens': ('BPE', dict(model=FILES['BPE']['model'] | dict(merges=[['q', 'z']]))),
    'no unknown token': ('WordPiece', dict(model=FILES['WordPiece']['model'] | dict(unk_token='[NOPE]'))),
    'long replacement': ('BPE', dict(pre_tokenizer={'type': 'Metaspace', 'replacement': 'ab'})),
    'missing values': ('WordPiece', dict(pre_tokenizer={'type': 'Split', 'pattern': {'String': 'x'}})),
    'huge ids': ('WordPiece', dict(model=FILES['WordPiece']['model'] | dict(vocab={'[UNK]': 0, 'x': 2**40}))),
}


def refused(action, path):
    """In one line that names the file, at once, and without taking memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(KoviltError) as caught:
        action()
    assert str(path) in str(caught.value) and '\n' not in str(caught.value) and len(str(caught.value)) < 500
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


@pytest.mark.parametrize('case', REFUSED)
def test_components_that_a_text_could_blow_up_are_refused(case, tmp_path):
    file = written(tmp_path, FILES['WordPiece'] | REFUSED[case])
    refused(lambda: check_tokenizer_json(file), file)
    for path in (file, tmp_path):
        refused(lambda path=path: load_tokenizer(path), file)


@pytest.mark.parametrize('case', REFUSED_MODELS)
def test_models_that_the_library_cannot_take_or_takes_too_long_are_refused(case, tmp_path):
    kind, changes = REFUSED_MODELS[case]
    content = copy.deepcopy(FILES[kind])
    content['model'] |= changes
    refused(lambda: load_tokenizer(written(tmp_path, content)), tmp_path / 'tokenizer.json')


@pytest.mark.parametrize('case', REFUSED_LATER)
def test_what_the_library_refuses_is_told_in_one_line(case, tmp_path):
    kind, changes = REFUSED_LATER[case]
    refused(lambda: load_tokenizer(written(tmp_path, FILES[kind] | changes)), tmp_path)


@pytest.mark.parametrize('kind', FILES)
def test_whole_files_of_each_kind_pass(kind, tmp_path):
    check_tokenizer_json(written(tmp_path, FILES[kind]))


@pytest.mark.parametrize(
    'changes',
    [
        dict(normalizer=sequence({'type': 'NFKD'}, {'type': 'Lowercase'}, charsmap(ONE_UNIT))),  # ALBERT's
        dict(normalizer=sequence(replace('``', '"'), replace("''", '"'), replace(' {2,}', '▁', 'Regex'))),
        dict(normalizer=sequence({'type': 'Prepend', 'prepend': '▁'}, replace(' ', '▁'))),  # Llama's
        dict(pre_tokenizer={'type': 'Sequence', 'pretokenizers': [{'type': 'Punctuation', 'behavior': 'Isolated'}]}),
        dict(normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None),
        *[dict(pre_tokenizer=regex(expression)) for expression in tokenizer_files._KNOWN_EXPRESSIONS],
        *[dict(pre_tokenizer=regex(expression)) for expression in (r'\s+', r'\p{N}', '[가-힣]+', r'[\r\n]', ' {2,}')],
    ],
    ids=str,
)
def test_components_of_public_tokenizers_pass(changes, tmp_path):
    file = written(tmp_path, FILES['WordPiece'] | changes)
    check_tokenizer_json(file)
    Tokenizer.from_file(str(file)).encode('고양이가 12 의자  위에')


@settings(max_examples=100, deadline=None)
@given(st.text('ab()[]*+?|{}1,2\\^$.p가 ', max_size=12))
def test_an_accepted_expression_is_quick(expression):
    """On texts of one repeated character, the worst ones, whatever the expression."""
    component = regex(expression)
    if tokenizer_files._refusal(component, 'pre_tokenizer') is not None:
        return
    content = dict(FILES['WordPiece'], pre_tokenizer=component)
    try:
        tokenizer = Tokenizer.from_str(json.dumps(content))
    except Exception:  # Oniguruma does not take it
        return
    start = time.monotonic()
    for character in 'ab1가':
        tokenizer.encode(character * 1280 + '!')
    assert time.monotonic() - start < 2


def test_padding_and_truncation_of_a_file_have_no_effect(tmp_path):
    """A fixed length of 10^9 tokens fills the memory, a stride beyond the length ends the library in a panic."""
    content = copy.deepcopy(FILES['WordPiece'])
    content['padding'] = dict(
        strategy={'Fixed': 10**9},
        direction='Right',
        pad_to_multiple_of=None,
        pad_id=0,
        pad_type_id=0,
        pad_token='[PAD]',
    )
    content['truncation'] = dict(direction='Right', max_length=1, strategy='LongestFirst', stride=5)
    (tmp_path / 'tokenizer_config.json').write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding='utf-8')
    for path in (written(tmp_path, content), tmp_path):
        try:
            results = TokenizeKorean(tokenizer=str(path), max_text_len=12)(dict(text='소파 의자'))
        except KoviltError as error:
            assert '\n' not in str(error) and str(path) in str(error)
        else:
            assert len(results['input_ids']) == 4


@pytest.fixture
def folder_with_code(tmp_path):
    """A tokenizer folder whose files ask for code of their own, which leaves a mark."""
    tiny_tokenizer().save_pretrained(tmp_path / 'tokenizer')
    code = f'open({str(tmp_path / "mark")!r}, "w")\nfrom transformers import BertTokenizer as Mine\n'
    (tmp_path / 'tokenizer/mine.py').write_text(code, encoding='utf-8')
    return tmp_path / 'tokenizer'


@pytest.mark.parametrize(
    'changes',
    [
        dict(tokenizer_class='Mine', auto_map={'AutoTokenizer': ['mine.Mine', 'mine.Mine']}),
        dict(tokenizer_class='mine.Mine'),
        dict(tokenizer_class='os.system'),
        dict(tokenizer_class='subprocess'),
        dict(tokenizer_class=['BertTokenizer']),
        dict(tokenizer_class='PreTrainedModel'),
        dict(auto_map={'AutoTokenizer': ['mine.Mine', None]}, trust_remote_code=True, tokenizer_class=None),
        dict(backend='mine', tokenizer_class=None),
        dict(_target_='os.system', tokenizer_class='BertTokenizer'),
        dict(custom_pipelines={'x': {'impl': 'mine.Mine'}}),
        dict(chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        dict(vocab_file='/etc/passwd', tokenizer_file='/etc/passwd'),
    ],
    ids=str,
)
def test_code_that_a_folder_asks_for_is_not_run(changes, folder_with_code, tmp_path, monkeypatch):
    file = folder_with_code / 'tokenizer_config.json'
    for name in ('tokenizer_config.json', 'config.json'):
        content = json.loads(file.read_text(encoding='utf-8')) if name == file.name else dict(model_type='bert')
        (folder_with_code / name).write_text(json.dumps(content | changes), encoding='utf-8')

    def asked(*arguments):
        raise AssertionError('a question on the terminal')

    monkeypatch.setattr('builtins.input', asked)
    monkeypatch.chdir(folder_with_code)
    for for_saving in (True, False):
        try:
            tokenizer = load_tokenizer(folder_with_code, for_saving=for_saving)
        except KoviltError as error:
            assert '\n' not in str(error) and str(folder_with_code) in str(error)
        else:
            assert tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
            assert type(tokenizer).__module__.startswith('transformers.')
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer_config.json', 'vocab.txt', 'config.json'])
def test_a_pipe_or_a_huge_file_in_a_tokenizer_folder_neither_hangs_nor_fills_the_memory(name, tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    refused(lambda: load_tokenizer(tmp_path), tmp_path / name)
    (tmp_path / name).unlink()
    with open(tmp_path / name, 'wb') as file:
        file.truncate(3 << 30)
    refused(lambda: load_tokenizer(tmp_path), tmp_path / name)


def test_a_panic_of_the_library_is_one_line(tmp_path, monkeypatch):
    """Also one that no check foresees."""
    panic = type('PanicException', (BaseException,), {})

    def load(*arguments, **options):
        raise panic('index out of bounds: the len is 1 but the index is 234')

    monkeypatch.setattr(PreTrainedTokenizerFast, '__init__', load)
    refused(lambda: load_tokenizer(written(tmp_path, FILES['WordPiece'])), tmp_path)
