"""The texts of the demo's page, in Korean and in English."""

from __future__ import annotations

from typing import NamedTuple


class Texts(NamedTuple):
    """The texts of one language. Those with braces are completed by `format`."""

    title: str
    other_language: str
    image: str
    question: str
    caption: str
    ask: str
    examples: str
    error: str
    warning: str
    no_image: str

    ask_tab: str
    answers: str
    abstained: str
    unlike_training: str
    history: str
    history_header: tuple[str, str, str, str]

    look_tab: str
    look_help: str
    look: str
    look_answers: str
    look_words: str
    look_abstained: str
    relevance: str
    plan: str
    no_plan: str

    words_tab: str
    words_help: str
    caption_words: str
    candidates: str

    compare_tab: str
    compare: str
    no_other: str

    errors_tab: str
    no_predictions: str
    answer_type: str
    any_type: str
    wrong_only: str
    order: str
    orders: tuple[str, str, str]
    found: str
    table_header: tuple[str, str, str, str, str, str]
    no_such_image: str
    take_over: str


KOREAN = Texts(
    title='kovilt 데모',
    other_language='English',
    image='이미지',
    question='질문',
    caption='캡션',
    ask='묻기',
    examples='예제 (kovilt가 그린 Rooms 이미지)',
    error='오류',
    warning='주의',
    no_image='이미지를 먼저 올리거나 예제를 고르세요.',
    ask_tab='묻기',
    answers='답과 확률',
    abstained='답변 보류: 가장 그럴듯한 답 {}의 확률 {:.1f} %가 임곗값 {:g} %보다 낮습니다.',
    unlike_training='이 이미지는 학습한 이미지와 다릅니다. 답을 믿지 마세요.',
    history='지금까지 물은 것',
    history_header=('이미지', '질문', '답', '확률, %'),
    look_tab='어디를 보는가',
    look_help=(
        '**관련도**(Chefer, Gur, Wolf 2021)는 답을 뒷받침하는 패치를, **수송 계획**은 한 어절의 질량이 가는 '
        '패치를 보여 줍니다. 답을 누르면 그 답의 관련도를, 어절을 누르면 그 어절의 수송 계획을 봅니다.'
    ),
    look='보기',
    look_answers='답 (누르면 그 답의 관련도)',
    look_words='질문의 어절과 관련도 비율 (누르면 그 어절의 수송 계획)',
    look_abstained='답변 보류: {}',
    relevance='관련도: {}',
    plan='수송 계획: {}',
    no_plan='이 모델은 어절과 패치를 정렬하지 않아 수송 계획이 없습니다.',
    words_tab='가린 어절',
    words_help=(
        '캡션의 어절을 누르면 그 어절을 가리고, 사전학습 모델이 그 자리에 넣는 후보와 그 어절의 수송 계획을 보여 '
        '줍니다. 한 어절의 토큰은 서로 독립으로 채우므로 어절의 확률은 토큰 확률의 곱입니다.\n\n'
        '마스크드 언어 모델링(MLM)으로 사전학습한 모델만 할 수 있습니다: `ViLTForPreTraining`과 '
        '`METERForPreTraining`의 모델 폴더와 체크포인트. 질문에 답하는 모델에는 그 헤드가 없습니다. 지금 쓰는 '
        '모델은 **{}**이고, 다른 모델은 `kovilt demo --pretrained MODEL`로 지정합니다.'
    ),
    caption_words='캡션의 어절 (가릴 어절을 누르세요)',
    candidates='가린 자리의 후보',
    compare_tab='모델 비교',
    compare='두 모델에 묻기',
    no_other='`kovilt demo MODEL --compare OTHER`로 시작하면 한 이미지에 대한 두 모델의 답을 나란히 보여 줍니다.',
    errors_tab='오답',
    no_predictions=(
        '`kovilt demo MODEL --predictions predictions.jsonl`로 시작하면 예측을 살펴볼 수 있습니다. 모든 학습과 '
        '`kovilt test`가 작업 폴더에 그 파일을 남깁니다. MODEL이 그런 작업 폴더이면 따로 지정하지 않아도 됩니다.'
    ),
    answer_type='질문 유형',
    any_type='전체',
    wrong_only='오답만',
    order='순서',
    orders=('확신이 큰 것부터', '확신이 작은 것부터', '파일 순서'),
    found='예측 {:,}개 가운데 {:,}개를 보여 줍니다. 행을 누르면 이미지가 나옵니다.',
    table_header=('번호', '유형', '질문', '정답', '예측', '확률, %'),
    no_such_image='이미지를 찾을 수 없거나 읽을 수 없습니다: {}',
    take_over='이 이미지에 묻기',
)

ENGLISH = Texts(
    title='kovilt demo',
    other_language='한국어',
    image='Image',
    question='Question',
    caption='Caption',
    ask='Ask',
    examples='Examples (Rooms images, drawn by kovilt)',
    error='Error',
    warning='Warning',
    no_image='Upload an image or choose an example first.',
    ask_tab='Ask',
    answers='Answers and their probability',
    abstained='The model abstains: its best answer, {}, has {:.1f} %, and the threshold is {:g} %.',
    unlike_training='The image is unlike those of training: do not trust the answer.',
    history='Asked so far',
    history_header=('image', 'question', 'answer', 'probability, %'),
    look_tab='Where does it look',
    look_help=(
        '**Relevance** (Chefer, Gur and Wolf 2021) shows the patches that speak for an answer, the **transport '
        'plan** those to which the mass of a word goes. Click an answer for its relevance, a word for its '
        'transport plan.'
    ),
    look='Show',
    look_answers='Answers (click one for its relevance)',
    look_words='Words of the question with their share of the relevance (click one for its transport plan)',
    look_abstained='the model abstains: {}',
    relevance='Relevance: {}',
    plan='Transport plan: {}',
    no_plan='This model aligns no words with patches, so there is no transport plan.',
    words_tab='Masked words',
    words_help=(
        'Click a word of the caption to hide it: the pre-trained model shows its candidates for that place, and '
        'the transport plan of the word. The tokens of a word are filled in independently, so its probability is '
        'the product of theirs.\n\n'
        'Only models pre-trained with masked language modelling (MLM) can do this: model folders and checkpoints '
        'of `ViLTForPreTraining` and `METERForPreTraining`. Models that answer questions lack that head. This is '
        '**{}**; `kovilt demo --pretrained MODEL` names another one.'
    ),
    caption_words='Words of the caption (click the one to hide)',
    candidates='Candidates for the hidden place',
    compare_tab='Compare',
    compare='Ask both models',
    no_other='`kovilt demo MODEL --compare OTHER` shows the answers of two models about one image side by side.',
    errors_tab='Errors',
    no_predictions=(
        '`kovilt demo MODEL --predictions predictions.jsonl` lets you browse predictions. Every training and '
        '`kovilt test` leaves that file in its work folder. If MODEL is such a work folder, its file is taken.'
    ),
    answer_type='Answer type',
    any_type='all',
    wrong_only='Wrong ones only',
    order='Order',
    orders=('surest first', 'least sure first', 'as in the file'),
    found='{:,} predictions, of which {:,} are shown. Click a row for its image.',
    table_header=('number', 'type', 'question', 'correct answer', 'prediction', 'probability, %'),
    no_such_image='The image is absent or cannot be read: {}',
    take_over='Ask about this image',
)

LANGUAGES = {'ko': KOREAN, 'en': ENGLISH}
