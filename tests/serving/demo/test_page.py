"""The page of each language: what its events show, without a browser."""

from pathlib import Path

import gradio as gr
import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.serving.demo.page import build_page
from kovilt.serving.demo.settings import DemoSettings
from kovilt.serving.demo.tabs import Demo, read_upload
from kovilt.serving.demo.texts import ENGLISH, KOREAN, LANGUAGES
from kovilt.weights.image_detector import ImageDetector


@pytest.fixture(scope='module')
def folder(examples, tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope='module')
def page(demo, examples, folder):
    return build_page(demo, KOREAN, 'en', examples, folder)


@pytest.fixture(scope='module')
def call(page):
    """Call the function of an event by its name; `number` tells events of one name apart."""

    def call(name, *arguments, number=0):
        found = [fn.fn for fn in page.fns.values() if fn.name == name]
        return found[number](*arguments)

    return call


@pytest.fixture(scope='module')
def upload(examples):
    return {'path': examples[0].image, 'orig_name': '방.jpg'}


def test_questions_one_after_the_other_are_listed(call, demo, upload, examples):
    abstained, bars, rows, shown, tabs = call('on_ask', upload, examples[0].question, [])
    answers = bars['value']
    assert bars['show_heading'] and not abstained['visible']
    assert answers[rows[0][2]] == max(answers.values()) and rows == shown and tabs['selected'] == 'ask'
    assert rows[0] == ['방.jpg', examples[0].question, next(iter(answers)), f'{100 * max(answers.values()):.1f}']
    _, _, rows, *_ = call('on_ask', upload, '의자가 있어요?', rows)
    assert [row[1] for row in rows] == ['의자가 있어요?', examples[0].question]


@pytest.mark.parametrize(
    ('given', 'question', 'message'),
    [
        (None, '의자가 있어요?', KOREAN.no_image),
        (__file__, '의자가 있어요?', 'the image was not uploaded here; upload it'),
        ('room.jpg', ' ', 'question: it is empty; give text'),
        ('broken', '의자가 있어요?', '&lt;b&gt;.png: not a readable image'),
    ],
)
def test_what_is_wrong_is_a_message(call, upload, folder, given, question, message):
    (folder / 'broken').write_bytes(b'no image')
    (folder / 'room.jpg').write_bytes(Path(upload['path']).read_bytes())
    with pytest.raises(gr.Error) as raised:
        call('on_ask', given and {'path': str(folder / given), 'orig_name': '<b>.png'}, question, [])
    assert raised.value.message.startswith(message) and raised.value.title == KOREAN.error
    assert not raised.value.print_exception


def test_a_fault_of_the_program_is_not_hidden(call, demo, upload, monkeypatch):
    monkeypatch.setattr(demo, 'ask', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call('on_ask', upload, '의자가 있어요?', [])


def test_both_heat_maps_follow_clicks(call, demo, upload, examples, event):
    question = examples[0].question
    answers, words, relevance, plan, looked = call('on_look', upload, question)
    assert relevance['label'] == KOREAN.relevance.format(next(iter(answers)))
    assert [word.rsplit(' ', 1)[0] for word, _ in words] == question.split() and max(share for _, share in words) == 1
    other = list(answers)[1]
    *_, relevance, _, _ = call('on_answer', upload, question, event(value=other))
    assert relevance['label'] == KOREAN.relevance.format(other) and relevance['value'] is not None
    first = call('on_word', looked, event(index=0))
    assert first['label'] == KOREAN.plan.format(question.split()[0]) and first['value'] is looked.plans[0]
    no_plan = call('on_word', looked._replace(plans=[]), event(index=0))
    assert no_plan['value'] is None and no_plan['label'] == KOREAN.no_plan


def test_the_tab_waits_for_an_image_and_a_question(call, upload):
    for given in ((None, '의자가 있어요?'), (upload, ''), (upload, None)):
        assert call('on_tab', *given) == gr.skip()
    assert call('on_word', None, None) == gr.skip()


def test_a_hidden_word_has_candidates_and_a_plan(call, upload, event):
    caption = '소파 한 개가 놓여 있다'
    words, *cleared = call('on_caption', caption)
    assert [word for word, _ in words] == caption.split() and cleared == [{}, None]
    words, candidates, plan = call('on_word', upload, caption, event(index=2), number=1)
    assert max(words, key=lambda word: word[1])[0] == '개가'
    assert len(candidates['value']) == 5 and candidates['label'] == f'{KOREAN.candidates}: 개가'
    assert plan['label'] == KOREAN.plan.format('개가') and plan['value'].width == 480


def test_two_models_answer(call, upload):
    one, other = call('on_compare', upload, '의자가 있어요?')
    assert one == other and len(one['value']) == 5 and one['label'] == 'rooms'


def test_an_abstention_stands_above_what_would_have_been_said(call, demo, upload, examples, monkeypatch):
    question, expected = (
        examples[0].question,
        demo.ask(read_upload(upload, Path(upload['path']).parent)[1], examples[0].question),
    )
    monkeypatch.setattr(demo.model, 'threshold', 1.0)
    monkeypatch.setattr(demo.model, 'abstention', '<모름>')
    abstained, bars, rows, *_ = call('on_ask', upload, question, [])
    assert abstained['visible'] and abstained['value'].startswith('<h2>&lt;모름&gt;</h2><p>답변 보류: ')
    assert expected.best in abstained['value'] and '임곗값 100 %보다' in abstained['value']
    assert bars['value'] == expected.answers and not bars['show_heading'] and rows[0][2] == '<모름>'
    answers, _, relevance, *_ = call('on_look', upload, question)
    assert answers == expected.answers
    assert relevance['label'] == f'{KOREAN.relevance.format(expected.best)} (답변 보류: <모름>)'
    one, other = call('on_compare', upload, question)
    assert (
        one['label'] == 'rooms: <모름>'
        and not one['show_heading']
        and other['label'] == 'rooms'
        and other['show_heading']
    )


@pytest.mark.parametrize(('threshold', 'shown'), [(0.0, [KOREAN.unlike_training]), (1e6, [])])
def test_an_image_unlike_training_is_told(call, demo, upload, monkeypatch, threshold, shown):
    told = []
    monkeypatch.setattr(gr, 'Warning', lambda text, title: told.append(text))
    size = demo.model.model.encoder.hidden_size
    detector = ImageDetector(torch.zeros(size), torch.eye(size), threshold, 20)
    monkeypatch.setattr(demo.model, 'image_detector', detector)
    call('on_ask', upload, '의자가 있어요?', [])
    assert told == shown


def test_errors_are_listed_and_taken_over(call, demo, event):
    text, rows = call('on_filter', '*', 'surest', True)
    assert [row[0] for row in rows] == [1, 2] and text == KOREAN.found.format(2, 2)
    assert rows[0] == [1, '색', '의자는 무슨 색이에요?', '갈색', '검은색', '80.0']
    assert [row[0] for row in call('on_filter', '존재', 'file', False)[1]] == [2, 3]
    image, answers, number = call('on_row', event(row_value=[1, '색']))
    assert image['value'].shape[2] == 3 and answers == {'검은색': 0.8, '2': 0.01} and number == 1
    image, _, _ = call('on_row', event(row_value=['3']))
    assert image['value'] is None and image['label'] == KOREAN.no_such_image.format('/absent/room.jpg')
    pixels, question = call('on_take', 1)
    assert pixels.shape[2] == 3 and question == '의자는 무슨 색이에요?'
    assert call('on_take', None) == (gr.skip(), gr.skip())


def test_a_broken_upload_is_taken_away(call, upload, folder):
    assert call('check', upload) == gr.skip()
    (folder / 'broken').write_bytes(b'no image')
    assert call('check', {'path': str(folder / 'broken'), 'orig_name': 'a.png'}) is None


def test_every_language_has_every_text():
    for name, korean, english in zip(KOREAN._fields, KOREAN, ENGLISH, strict=True):
        assert type(korean) is type(english) and len(korean) and len(english), name
        if isinstance(korean, str):
            assert korean.count('{') == english.count('{'), name
        else:
            assert len(korean) == len(english), name
    assert list(LANGUAGES) == ['ko', 'en']


def test_a_tab_without_its_model_says_what_to_name(examples, folder):
    demo = Demo(DemoSettings(device='cpu'))
    page = build_page(demo, ENGLISH, 'ko', examples, folder)
    shown = [block.value for block in page.blocks.values() if isinstance(block, gr.Markdown)]
    assert ENGLISH.no_other in shown and ENGLISH.no_predictions in shown
    assert ENGLISH.words_help.format('rooms_encoder') in shown
    assert not page.analytics_enabled
    with pytest.raises(KoviltError, match='no such model'):
        Demo(DemoSettings(compare='absent', device='cpu'))
