"""What verification says of the usual forms of AI-Hub 101 and KVQA, which stop nothing."""

import json

import pytest

from kovilt.verification import sources_of_folder, verify


def check(data, columns=None):
    sources = sources_of_folder(str(data.root), None, columns=columns)
    return verify(sources, deep=False, workers=1, progress=lambda done, total: None).findings


def descriptions(findings, code):
    return [finding.description for finding in findings.of(code)]


def test_statements_and_a_question_about_all_images(data):
    """Categories with parentheses, yes/no questions as statements, the same question about each image."""
    labels = {'images': [], 'question': []}
    for number in range(50):
        data.image(f'images/가전(가구)/{number}.jpg', seed=number)
        labels['images'].append({'image_id': number, 'image': f'{number}.jpg', 'category': '가전(가구)'})
        texts = [(f'{number}번 병에 물이 가득 차있어', '아니요'), ('위험한 물건 또는 상황은 무엇이 있습니까', '냄비')]
        for place, (question, answer) in enumerate(texts):
            row = {'question_id': 2 * number + place, 'image_id': number, 'question': question, 'answer': answer}
            labels['question'].append(row)
    data.write('Training/라벨링데이터/개인.json', labels)
    findings = check(data)
    (statement,), (fixed,) = descriptions(findings, 'text.statement'), descriptions(findings, 'text.fixed')
    assert '50 of 50 yes/no questions of AIHubLivingReader train are statements without a question mark' in statement
    assert "'위험한 물건 또는 상황은 무엇이 있습니까' is asked about 100% of the images" in fixed
    assert not findings.of('image.missing')
    data.zip('Training/원천데이터.zip', 'images')  # in a zip with the same folder
    assert not check(data).of('image.missing')


def test_english_answers_and_disagreeing_marks_of_kvqa(data):
    rows = []
    for number in range(4):
        data.image(f'{number}.jpg', seed=number)
        answers = [{'answer': 'Yes' if number < 3 else 'unanswerable'}] * 10
        kind = 'unanswerable' if number == 3 else 'yes/no'
        rows.append({'image': f'{number}.jpg', 'question': '불이 켜져 있어요?', 'answers': answers})
        rows[-1] |= {'answerable': int(number in (0, 3)), 'answer_type': kind}
    data.write('KVQA_annotations_train.json', rows)
    findings = check(data)
    assert descriptions(findings, 'answer.english') == [
        "'Yes' (3 rows), 'unanswerable' (1 rows), where questions are Korean"
    ]
    assert descriptions(findings, 'type.disagrees') == [
        "answerable is 0, but answer_type 'yes/no'",
        "answerable is 1, but answer_type 'unanswerable'",
    ]
    assert findings.times['type.disagrees'] == 3


def test_answers_that_are_mostly_english(data):
    rows = [
        {
            'image': f'{number % 5}.jpg',
            'question': f'누구예요 {number}?',
            'answer': ['Kim Gu', '백범'][number % 10 == 0],
        }
        for number in range(60)
    ]
    for number in range(5):
        data.image(f'{number}.jpg', seed=number)
    data.write('train.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    (description,) = descriptions(check(data), 'answer.english')
    assert description == '90% of the answers of PlainReader train are English, its questions Korean'


@pytest.mark.parametrize('columns', [None, {'image': '사진', 'question': '질문', 'answer': '정답'}])
def test_columns_of_a_folder(data, columns):
    data.image('a.jpg')
    rows = [{'사진': 'a.jpg', '질문': '뭐예요?', '정답': '공'}]
    data.write('train.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    refused = descriptions(check(data, columns), 'labels.refused')
    assert not refused if columns else '--columns image=사진 question=질문 answer=정답 takes them' in refused[0]
