"""The page of the demo in one language. It only shows what `tabs` computes.

Events take inputs as the browser sends them (preprocess=False): Gradio would open an uploaded image by itself, before
the checks of `read_upload`.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import gradio as gr

from kovilt.apis.questions import MAX_CHARACTERS
from kovilt.errors import KoviltError, user_error
from kovilt.serving.demo.tabs import (
    Asked,
    Demo,
    Example,
    Looked,
    Order,
    read_prediction_image,
    read_upload,
)
from kovilt.serving.demo.texts import Texts

_CACHE = (3600, 86_400)  # seconds: every hour files of the day before are removed
_RESULT = {
    'interactive': False,
    'format': 'png',
    'buttons': ['download', 'fullscreen'],
}  # of images; Gradio would add a link to its site
_MAX_HISTORY = 200
_MAX_WAITING = 64  # events; further ones are told that the demo is busy


class _Inputs(NamedTuple):
    """What all tabs ask about."""

    image: gr.Image
    question: gr.Textbox
    caption: gr.Textbox


def build_page(demo: Demo, text: Texts, language: str, examples: Sequence[Example], folder: Path) -> gr.Blocks:
    """The page.

    Args:
        language: another one, to which the page has a link.
        folder: that uploads are written to.
    """
    with gr.Blocks(title=text.title, analytics_enabled=False, delete_cache=_CACHE, fill_width=True) as page:
        link = f'<a href="../{language}/" id="language" style="float: right">{text.other_language}</a>'
        gr.HTML(f'{link}<h1 style="font-size: 1.3em">{text.title} · {html.escape(demo.names[0])}</h1>')
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _Inputs(
                    gr.Image(
                        label=text.image,
                        type='filepath',
                        image_mode=None,
                        format='png',  # without loss, for images that an event puts there
                        sources=['upload', 'clipboard', 'webcam'],
                        buttons=['fullscreen'],
                        height=340,
                        elem_id='image',
                    ),
                    gr.Textbox(label=text.question, max_length=MAX_CHARACTERS, elem_id='question'),
                    gr.Textbox(label=text.caption, max_length=MAX_CHARACTERS, elem_id='caption', render=False),
                )
                ask = gr.Button(text.ask, variant='primary', elem_id='ask')
                gr.Examples(
                    [list(example) for example in examples],
                    list(inputs),
                    label=text.examples,
                    elem_id='examples',
                    cache_examples=False,
                    visible_columns=[0, 1],
                )
            with gr.Column(scale=3, min_width=320), gr.Tabs() as tabs:
                read = functools.partial(_read, text, folder)
                with gr.Tab(text.ask_tab, id='ask', elem_id='ask-tab'):
                    _ask_tab(demo, text, inputs, read, ask, tabs)
                with gr.Tab(text.look_tab, id='look', elem_id='look-tab') as look_tab:
                    _look_tab(demo, text, inputs, read, look_tab)
                with gr.Tab(text.words_tab, id='words', elem_id='words-tab'):
                    _words_tab(demo, text, inputs, read)
                with gr.Tab(text.compare_tab, id='compare', elem_id='compare-tab'):
                    _compare_tab(demo, text, inputs, read)
                with gr.Tab(text.errors_tab, id='errors', elem_id='errors-tab'):
                    _errors_tab(demo, text, inputs)

        def check(upload: dict[str, Any]) -> Any:
            try:
                read(upload)
            except KoviltError as error:
                gr.Warning(html.escape(str(error)), title=text.error)
                return None
            return gr.skip()

        inputs.image.upload(check, inputs.image, inputs.image, preprocess=False, show_progress='hidden')
    page.queue(max_size=_MAX_WAITING, default_concurrency_limit=1)
    return page


def _read(text: Texts, folder: Path, upload: dict[str, Any] | None) -> tuple[str, Any]:
    if not upload:
        raise KoviltError(text.no_image)
    return read_upload(upload, folder)


def _shown(text: Texts) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate the function of an event: what is wrong with its input becomes a message on the page."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                found = user_error(error)
                if found is None:
                    raise
                message = html.escape(str(found))
                raise gr.Error(message, title=text.error, print_exception=False) from error

        return call

    return decorate


def _bars(found: Asked, label: str) -> Any:
    """The answers as bars; the best one stands above them, unless the model abstains."""
    return gr.update(value=found.answers, label=label, show_heading=found.abstention is None)


def _ask_tab(demo: Demo, text: Texts, inputs: _Inputs, read: Callable[..., Any], ask: gr.Button, tabs: gr.Tabs) -> None:
    abstained = gr.HTML(visible=False, elem_id='abstained')
    answers = gr.Label(label=text.answers, elem_id='answers')
    asked = gr.State([])
    history = gr.Dataframe(
        headers=list(text.history_header), label=text.history, interactive=False, wrap=True, elem_id='history'
    )

    @_shown(text)
    def on_ask(upload: dict[str, Any] | None, question: str, rows: list[list[str]]) -> tuple[Any, ...]:
        name, pixels = read(upload)
        found = demo.ask(pixels, question)
        for warning in found.warnings + [text.unlike_training] * found.unlike_training:
            gr.Warning(html.escape(warning), title=text.warning)
        share = 100 * found.answers[found.best]
        rows = [[name, question, found.given, f'{share:.1f}'], *rows][:_MAX_HISTORY]
        why = text.abstained.format(found.best, share, 100 * demo.model.threshold)
        heading = f'<h2>{html.escape(found.given)}</h2><p>{html.escape(why)}</p>'
        shown = gr.update(value=heading, visible=found.abstention is not None)
        return shown, _bars(found, text.answers), rows, rows, gr.update(selected='ask')

    gr.on(
        [ask.click, inputs.question.submit],
        on_ask,
        [inputs.image, inputs.question, asked],
        [abstained, answers, asked, history, tabs],
        preprocess=False,
    )


def _look_tab(demo: Demo, text: Texts, inputs: _Inputs, read: Callable[..., Any], tab: gr.Tab) -> None:
    gr.Markdown(text.look_help)
    look = gr.Button(text.look, variant='primary', elem_id='look')
    with gr.Row():
        answers = gr.Label(label=text.look_answers, show_heading=False, elem_id='look-answers')
        words = gr.HighlightedText(label=text.look_words, elem_id='look-words')
    with gr.Row():
        relevance = gr.Image(label=text.relevance.format(''), **_RESULT, elem_id='relevance')
        plan = gr.Image(label=text.plan.format(''), **_RESULT, elem_id='plan')
    looked = gr.State(None)

    def show_word(found: Looked, number: int) -> Any:
        if not found.plans:
            return gr.update(value=None, label=text.no_plan)
        return gr.update(value=found.plans[number], label=text.plan.format(found.words[number][0]))

    def show(upload: dict[str, Any] | None, question: str, answer: str | None) -> tuple[Any, ...]:
        _, pixels = read(upload)
        found = demo.look(pixels, question, answer)
        largest = max((share for _, share in found.words), default=0.0) or 1.0
        abstention = '' if found.abstention is None else f' ({text.look_abstained.format(found.abstention)})'
        shaded = [(f'{word} {share:.0%}', share / largest) for word, share in found.words]
        return (
            demo.ask(pixels, question).answers,
            shaded,
            gr.update(value=found.image, label=f'{text.relevance.format(found.answer)}{abstention}'),
            show_word(found, found.most_relevant_word),
            found,
        )

    @_shown(text)
    def on_look(upload: dict[str, Any] | None, question: str) -> tuple[Any, ...]:
        return show(upload, question, None)

    @_shown(text)
    def on_tab(upload: dict[str, Any] | None, question: str) -> Any:
        return show(upload, question, None) if upload and question and question.strip() else gr.skip()

    @_shown(text)
    def on_answer(upload: dict[str, Any] | None, question: str, event: gr.SelectData) -> tuple[Any, ...]:
        return show(upload, question, str(event.value))

    @_shown(text)
    def on_word(found: Looked | None, event: gr.SelectData) -> Any:
        return gr.skip() if found is None else show_word(found, int(event.index))

    given, outputs = [inputs.image, inputs.question], [answers, words, relevance, plan, looked]
    look.click(on_look, given, outputs, preprocess=False)
    tab.select(on_tab, given, outputs, preprocess=False)
    answers.select(on_answer, given, outputs, preprocess=False)
    words.select(on_word, looked, plan, preprocess=False)


def _words_tab(demo: Demo, text: Texts, inputs: _Inputs, read: Callable[..., Any]) -> None:
    gr.Markdown(text.words_help.format(demo.settings.pretrained))
    inputs.caption.render()
    words = gr.HighlightedText(label=text.caption_words, elem_id='caption-words')
    with gr.Row():
        candidates = gr.Label(label=text.candidates, elem_id='candidates')
        plan = gr.Image(label=text.plan.format(''), **_RESULT, elem_id='word-plan')

    def shade(words: Sequence[str], hidden: int | None = None) -> list[tuple[str, float]]:
        return [(word, 0.8 if number == hidden else 0.1) for number, word in enumerate(words)]

    def on_caption(caption: str | None) -> tuple[Any, ...]:
        return shade((caption or '').split()), {}, None

    @_shown(text)
    def on_word(upload: dict[str, Any] | None, caption: str, event: gr.SelectData) -> tuple[Any, ...]:
        _, pixels = read(upload)
        found = demo.fill(pixels, caption, int(event.index))
        shown = found.plan_image()
        word = found.words[found.hidden]
        return (
            shade(caption.split(), found.hidden),
            gr.update(value=dict(found.candidates), label=f'{text.candidates}: {word}'),
            gr.update(value=shown, label=text.no_plan if shown is None else text.plan.format(word)),
        )

    inputs.caption.change(on_caption, inputs.caption, [words, candidates, plan], show_progress='hidden')
    words.select(on_word, [inputs.image, inputs.caption], [words, candidates, plan], preprocess=False)


def _compare_tab(demo: Demo, text: Texts, inputs: _Inputs, read: Callable[..., Any]) -> None:
    if demo.other is None:
        gr.Markdown(text.no_other)
        return
    compare = gr.Button(text.compare, variant='primary', elem_id='compare')
    with gr.Row():
        answers = [gr.Label(label=name, elem_id=f'model-{number}') for number, name in enumerate(demo.names)]

    @_shown(text)
    def on_compare(upload: dict[str, Any] | None, question: str) -> list[Any]:
        _, pixels = read(upload)
        both = zip(demo.names, demo.compare(pixels, question), strict=True)
        return [_bars(found, name if found.abstention is None else f'{name}: {found.given}') for name, found in both]

    compare.click(on_compare, [inputs.image, inputs.question], answers, preprocess=False)


def _errors_tab(demo: Demo, text: Texts, inputs: _Inputs) -> None:
    if not demo.predictions:
        gr.Markdown(text.no_predictions)
        return
    types = [(f'{name or "-"} ({count:,})', name) for name, count in demo.answer_types]
    with gr.Row():
        kind = gr.Dropdown([(text.any_type, '*'), *types], value='*', label=text.answer_type, elem_id='answer-type')
        order = gr.Dropdown(
            list(zip(text.orders, get_args(Order), strict=True)), value='surest', label=text.order, elem_id='order'
        )
        wrong = gr.Checkbox(True, label=text.wrong_only, elem_id='wrong')
    found = gr.Markdown()
    table = gr.Dataframe(headers=list(text.table_header), interactive=False, wrap=True, elem_id='errors-table')
    with gr.Row():
        shown = gr.Image(label=text.image, **_RESULT, elem_id='error-image')
        answers = gr.Label(label=text.answers, elem_id='error-answers')
    take = gr.Button(text.take_over, elem_id='take-over')
    chosen = gr.State(None)

    def on_filter(answer_type: str, order: Order, wrong_only: bool) -> tuple[Any, ...]:
        numbers, total = demo.choose_predictions(
            None if answer_type == '*' else answer_type, wrong_only=wrong_only, order=order
        )
        rows = []
        for number in numbers:
            one = demo.predictions[number]
            score = f'{100 * one["score"]:.1f}'
            rows.append([number, one['answer_type'], one['question'], one['ground_truth'], one['answer'], score])
        return text.found.format(total, len(rows)), rows

    def on_row(event: gr.SelectData) -> tuple[Any, ...]:
        one = demo.predictions[int(event.row_value[0])]
        pixels = read_prediction_image(one)
        topk = one.get('topk') or [{'answer': one['answer'], 'score': one['score']}]
        label = text.image if pixels is not None else text.no_such_image.format(one['image'])
        return (
            gr.update(value=pixels, label=label),
            {str(answer['answer']): float(answer['score']) for answer in topk},
            int(event.row_value[0]),
        )

    def on_take(number: int | None) -> tuple[Any, ...]:
        if number is None:
            return gr.skip(), gr.skip()
        return read_prediction_image(demo.predictions[number]), demo.predictions[number]['question']

    gr.on(None, on_filter, [kind, order, wrong], [found, table])  # at the beginning and when one of them changes
    table.select(on_row, None, [shown, answers, chosen])
    take.click(on_take, chosen, [inputs.image, inputs.question])
