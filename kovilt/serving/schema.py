"""What requests and answers of the service hold. Field descriptions and examples go into the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from kovilt.serving.settings import MAX_CHOICES, MAX_EXPLAINED, MAX_QUESTIONS

TopK = Annotated[int, Field(ge=1, le=100)]
QUESTIONS: list[JsonValue] = ['소파는 무슨 색이에요?', '의자가 있어요?']
IMAGE = (  # a PNG of 32 x 32 red pixels, so that the example can be sent as it is
    'iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mM4oSFHU8QwasGoBaMWjFow'
    'asGoBaMWjFowasGoBaMWDBULALP5OD2bhkZqAAAAAElFTkSuQmCC'
)
_ANSWER: dict[str, JsonValue] = {
    'question': QUESTIONS[0],
    'answer': '빨간색',
    'score': 0.93,
    'topk': [{'answer': '빨간색', 'score': 0.93}, {'answer': '갈색', 'score': 0.04}],
    'unknown_token_share': 0.0,
    'warnings': [],
}
_ABSTAINED: dict[str, JsonValue] = _ANSWER | {
    'answer': '모르겠음',
    'score': 0.41,
    'abstained': True,
    'topk': [{'answer': '빨간색', 'score': 0.41}, {'answer': '갈색', 'score': 0.38}],
}


class Strict(BaseModel):
    """A body in which a misspelt key is an error."""

    model_config = ConfigDict(extra='forbid')


class Questions(Strict):
    """Questions about one image."""

    questions: list[str] = Field(min_length=1, max_length=MAX_QUESTIONS, description='질문들, 한국어 문장')
    topk: TopK = Field(5, description='질문마다 돌려줄 답의 수')
    choices: list[str] | None = Field(
        None,
        min_length=2,
        max_length=MAX_CHOICES,
        description='모든 질문의 보기. 객관식 모델에는 필요하고, 다른 모델에서는 그 모델의 답이어야 함',
    )
    explain: bool = Field(
        False, strict=True, description=f'답마다 근거(패치와 토큰의 관련도)를 덧붙임, 질문은 {MAX_EXPLAINED}개까지'
    )


class VQARequest(Questions):
    """An image and questions about it."""

    model_config = ConfigDict(json_schema_extra={'examples': [{'image': IMAGE, 'questions': QUESTIONS, 'topk': 3}]})

    image: str = Field(min_length=1, description='이미지 파일의 base64, 또는 data URL (data:image/png;base64,...)')


class BatchLine(VQARequest):
    """A line of a request to /v1/batch."""

    model_config = ConfigDict(
        json_schema_extra={'examples': [{'id': 'a1', 'image': IMAGE, 'questions': QUESTIONS[:1]}]}
    )

    id: str | int | None = Field(None, description='답 줄에 그대로 돌아오는 값')


class ScoredAnswer(BaseModel):
    """An answer and its softmax probability among all answers of the model, or among the choices."""

    answer: str
    score: float = Field(ge=0, le=1)


class Relevance(BaseModel):
    """What speaks for an answer (Chefer, Gur and Wolf, ICCV 2021): 0 or more, on one scale for patches and tokens."""

    tokens: list[str] = Field(description='질문의 토큰, [CLS]와 [SEP] 포함')
    token_relevance: list[float] = Field(description='토큰마다 하나')
    patch_relevance: list[list[float]] = Field(description='패치마다 하나, 행마다 한 배열')
    part: list[float] = Field(description='패치들이 덮는 이미지 부분: 왼쪽, 위, 오른쪽, 아래, 너비와 높이에 대한 비율')


class VQAAnswer(ScoredAnswer):
    """The best answer to a question and the next ones."""

    model_config = ConfigDict(json_schema_extra={'examples': [_ANSWER, _ABSTAINED]})

    question: str
    topk: list[ScoredAnswer]
    unknown_token_share: float | None = Field(description='질문의 토큰 가운데 모델이 모르는 것의 비율, 0~1')
    warnings: list[str] = Field(description='모델이 질문에서 읽지 못하는 것')
    choice: int | None = Field(None, description='고른 보기의 번호, 0부터. 요청에 choices 가 있을 때만, 보류하면 null')
    abstained: bool | None = Field(
        None,
        description='답변을 보류했는지: 가장 그럴듯한 답의 확률 score 가 임곗값보다 작으면 answer 는 모르겠음이고, '
        'topk 는 보류하지 않았다면 했을 답들. 임곗값이 있을 때만',
    )
    image_distance: float | None = Field(None, description='학습 이미지들과의 거리, 모델에 이미지 검출기가 있을 때만')
    unlike_training: bool | None = Field(None, description='학습 이미지와 다른지, 모델에 이미지 검출기가 있을 때만')
    explanation: Relevance | None = Field(None, description='요청에 explain 이 있을 때만')


class VQAResponse(BaseModel):
    """The answers to the questions, in their order."""

    model: str
    answers: list[VQAAnswer]


class ErrorDetail(BaseModel):
    """One line that says what is wrong, in OpenAI's format."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


class BatchResult(BaseModel):
    """A line of the answer of /v1/batch: `answers` or `error`."""

    id: str | int | None = None
    line: int = Field(description='요청의 줄 번호, 1부터')
    answers: list[VQAAnswer] | None = None
    error: ErrorDetail | None = None


class Status(BaseModel):
    """The state of the service."""

    status: str


# OpenAI's format. Other keys, such as temperature, have no meaning for a model that chooses among answers: ignored.


class ImageURL(BaseModel):
    url: str = Field(description='data URL만 받습니다 (data:image/png;base64,...); 다른 주소는 읽지 않습니다')


class TextPart(BaseModel):
    type: Literal['text']
    text: str


class ImagePart(BaseModel):
    type: Literal['image_url']
    image_url: ImageURL


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator='type')]


class ChatMessage(BaseModel):
    role: Literal['system', 'developer', 'user', 'assistant', 'tool', 'function']
    content: str | list[ContentPart] | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """A conversation whose last user message asks about the last image that was shown."""

    model_config = ConfigDict(
        json_schema_extra={
            'examples': [
                {
                    'model': 'model',
                    'messages': [
                        {
                            'role': 'user',
                            'content': [
                                {'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{IMAGE}'}},
                                {'type': 'text', 'text': QUESTIONS[0]},
                            ],
                        }
                    ],
                }
            ]
        }
    )

    model: str | None = Field(None, description='GET /v1/models 가 알려 주는 이름')
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    n: Literal[1] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)


class ChatResponse(BaseModel):
    """A `chat.completion` of OpenAI's API. The answers of the model take the place of its tokens."""

    id: str
    object: Literal['chat.completion'] = 'chat.completion'
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]


class ModelInfo(BaseModel):
    id: str
    object: Literal['model'] = 'model'
    created: int
    owned_by: str = 'kovilt'


class ModelList(BaseModel):
    object: Literal['list'] = 'list'
    data: list[ModelInfo]
