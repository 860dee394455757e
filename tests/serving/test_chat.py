"""The `openai` client talks to the service as to OpenAI's own."""

import base64
import math

import openai
import pytest

from tests.serving.conftest import QUESTIONS, image_file

URL = f'data:image/png;base64,{base64.b64encode(image_file()).decode()}'


@pytest.fixture(scope='module')
def openai_client(client):
    return openai.OpenAI(base_url='http://testserver/v1', api_key='unused', http_client=client, max_retries=0)


def message(text, *urls, role='user'):
    images = [{'type': 'image_url', 'image_url': {'url': url, 'detail': 'low'}} for url in urls]
    return {'role': role, 'content': [*images, {'type': 'text', 'text': text}]}


def create(openai_client, messages, **more):
    return openai_client.chat.completions.create(**{'model': 'tiny', 'messages': messages, **more})


@pytest.fixture(scope='module')
def expected(client):
    body = {'image': URL, 'questions': QUESTIONS, 'topk': 3}
    return client.post('/v1/vqa', json=body).json()['answers']


def test_a_completion_is_the_answer(openai_client, expected):
    done = create(
        openai_client, [message(QUESTIONS[0], URL)], temperature=0, max_tokens=16, logprobs=True, top_logprobs=3
    )
    (choice,) = done.choices
    assert choice.message.content == expected[0]['answer'] and choice.message.role == 'assistant'
    assert choice.finish_reason == 'stop' and done.model == 'tiny' and done.object == 'chat.completion'
    (token,) = choice.logprobs.content
    assert token.token == expected[0]['answer'] and math.exp(token.logprob) == pytest.approx(expected[0]['score'])
    assert [one.token for one in token.top_logprobs] == [one['answer'] for one in expected[0]['topk']]
    assert done.usage.total_tokens == done.usage.prompt_tokens + 1 > 2
    assert create(openai_client, [message(QUESTIONS[0], URL)]).choices[0].logprobs is None


def test_a_stream_gives_the_same_and_ends(openai_client, expected):
    chunks = list(
        create(openai_client, [message(QUESTIONS[1], URL)], stream=True, stream_options={'include_usage': True})
    )
    text = ''.join(chunk.choices[0].delta.content or '' for chunk in chunks if chunk.choices)
    assert text == expected[1]['answer'] and chunks[-2].choices[0].finish_reason == 'stop'
    assert chunks[-1].usage.completion_tokens == 1 and len({chunk.id for chunk in chunks}) == 1


def test_the_last_user_message_asks_about_the_last_image(openai_client, expected):
    other = f'data:image/png;base64,{base64.b64encode(image_file(1)).decode()}'
    messages = [
        {'role': 'system', 'content': '짧게 답하세요'},
        message('책은 ?', other),
        {'role': 'assistant', 'content': '네'},
        message(QUESTIONS[1], URL),
        {'role': 'assistant', 'content': None},
        {'role': 'user', 'content': QUESTIONS[2]},
    ]
    assert create(openai_client, messages).choices[0].message.content == expected[2]['answer']
    parts = [{'type': 'text', 'text': part} for part in QUESTIONS[2].split(' ', 1)]
    split = [{'role': 'user', 'content': [*message('', URL)['content'][:1], *parts]}]
    assert create(openai_client, split).choices[0].message.content == expected[2]['answer']


def test_the_models_are_listed(openai_client):
    assert [model.id for model in openai_client.models.list()] == ['tiny']
    assert openai_client.models.retrieve('tiny').owned_by == 'kovilt'
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        openai_client.models.retrieve('gpt/other')


@pytest.mark.parametrize(
    ('messages', 'more', 'kind', 'said'),
    [
        ([message('책?')], {}, openai.BadRequestError, 'no image in them'),
        ([message('책?', URL, role='system')], {}, openai.BadRequestError, 'no user message'),
        ([message('책?', URL, URL)], {}, openai.BadRequestError, '2 images in one message'),
        ([message('책?', 'https://example.com/a.png')], {}, openai.BadRequestError, 'no address is fetched'),
        ([message('책?', 'data:image/png;base64,AAAA')], {}, openai.BadRequestError, 'not a readable image'),
        ([message('', URL)], {}, openai.BadRequestError, 'it is empty'),
        ([message('책?', URL)], {'model': 'gpt-4o'}, openai.NotFoundError, "'gpt-4o' does not exist"),
        ([message('책?', URL)], {'n': 2}, openai.UnprocessableEntityError, 'n: '),
        ([], {}, openai.UnprocessableEntityError, 'messages: '),
        ([{'role': 'user', 'content': [{'type': 'input_audio'}]}], {}, openai.UnprocessableEntityError, 'input_audio'),
    ],
)
def test_the_client_gets_errors_of_its_own_classes(openai_client, messages, more, kind, said):
    with pytest.raises(kind) as caught:
        create(openai_client, messages, **more)
    assert said in caught.value.body['message'] and '\n' not in caught.value.body['message']
