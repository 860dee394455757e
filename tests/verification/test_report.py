"""Every kind of fault is planted into a data set without faults; it alone is found, at its place."""

from __future__ import annotations

import dataclasses
import json

import pytest
from PIL import Image, ImageFile
from planted_faults import (
    LAYOUTS,
    PLANTS,
    QUESTIONS,
    break_label_zip,
    captions,
    cut_labels,
    image,
    in_json,
    knowledge,
    kvqa,
    line,
    living,
    no_val,
    noise,
    plain,
    question,
    row,
    save_cut,
    visual,
    write_rows,
)

from kovilt.errors import KoviltError
from kovilt.verification import (
    FINDING_KINDS,
    DataSource,
    Findings,
    VerificationReport,
    checked_images,
    sources_of_folder,
    verify,
)
from kovilt.verification.images import check_image


def verify_all(sources: list[DataSource], *, deep: bool | None = True, workers: int = 1) -> VerificationReport:
    return verify(sources, deep=deep, workers=workers, progress=lambda done, total: None)


def found(report: VerificationReport) -> list[tuple[str, str]]:
    return [(finding.code, finding.place.partition(', column')[0]) for finding in report.findings]


@pytest.mark.parametrize('layout, reader', LAYOUTS.items(), ids=lambda value: getattr(value, '__name__', value))
def test_sets_without_faults(data, layout, reader):
    layout(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert not found(report) and report.findings.exit_code == 0
    assert {split['reader'] for split in report.splits} == {reader}
    assert [split['split'] for split in report.splits] == ['train', 'val']
    assert all(split['rows'] for split in report.splits)
    assert report.images['checked'] == sum(split['images'] for split in report.splits)


@pytest.mark.parametrize('code, layout, plant', [plant[1:] for plant in PLANTS], ids=[plant[0] for plant in PLANTS])
def test_a_planted_fault_is_found_where_it_is_and_nothing_else(data, code, layout, plant):
    layout(data)
    sources = sources_of_folder(str(data.root), None)
    place = plant(data)
    report = verify_all(sources)
    assert set(found(report)) == {(code, place)}
    assert report.findings.exit_code == {'error': 2, 'warning': 1, 'note': 0}[FINDING_KINDS[code].severity]


ELSEWHERE = {
    'text.statement',
    'text.fixed',
    'type.disagrees',
    'answer.english',
    'image.compressed',
    'split.absent',
    'answer.rare',
    'answer.no_class',
    'answer.unanswerable',
    *(c for c in FINDING_KINDS if c.startswith('tokenizer')),
}


def test_every_code_is_planted_at_least_once():
    assert {plant[1] for plant in PLANTS} | ELSEWHERE == set(FINDING_KINDS)
    assert len(PLANTS) >= 40 and len({plant[0] for plant in PLANTS}) == len(PLANTS)


def test_a_split_that_is_not_there(data):
    plain(data)
    no_val(data)
    assert found(verify_all(sources_of_folder(str(data.root), None))) == [('split.absent', str(data.root))]


@pytest.mark.parametrize('min_count, code', [(3, None), (5, 'answer.no_class'), (2, None)])
def test_answers_too_rare_for_a_class(data, min_count, code):
    plain(data)
    sources = [
        dataclasses.replace(source, min_count=min_count if source.training else None)
        for source in sources_of_folder(str(data.root), None)
    ]
    assert found(verify_all(sources)) == ([(code, str(data.root))] if code else [])


@pytest.mark.parametrize(
    'unknown, code',
    [((), None), ((1, 2), None), ((1, 2, 3), 'answer.unanswerable'), ((1, 2, 3, 4), 'answer.unanswerable')],
)
def test_most_validation_answers_cannot_be_produced(data, unknown, code):
    plain(data)
    for at in unknown:
        row(at, 'val', answer=f'{at}번 방')(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.splits[1]['answerable_share'] == 1 - len(unknown) / 4
    assert report.findings.counts['answer.only_in_val'] == len(unknown)
    assert [place for name, place in found(report) if name == 'answer.unanswerable'] == [str(data.root)] * bool(code)
    assert report.findings.exit_code == (2 if code else 0)


def test_validation_answers_too_rare_in_training_cannot_be_produced(data):
    plain(data)
    for at in range(1, 5):
        row(at, 'val', answer='보라색')(data)
    row(1, answer='보라색')(data)
    training, val = sources_of_folder(str(data.root), None)
    for min_count, share in ((1, 1.0), (2, 0.0)):
        report = verify_all([dataclasses.replace(training, min_count=min_count), val])
        assert report.splits[1]['answerable_share'] == share
        assert report.findings.counts['answer.unanswerable'] == (share == 0)


def test_one_answer_of_several_people_is_enough(data):
    kvqa(data)
    name = 'KVQA_annotations_val.json'
    people = [{'answer': answer} for answer in ['초록색'] * 9 + ['예']]
    in_json(name, lambda rows: rows[0].update(answers=people), name)(data)
    assert verify_all(sources_of_folder(str(data.root), None)).splits[1]['answerable_share'] == 1


def test_an_answer_spelled_otherwise_in_training_is_shown_with_it(data):
    plain(data)
    row(2, 'val', answer='네')(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert [finding.description for finding in report.findings] == ["'네' (1 rows); training spells it '예'"]


def test_all_spellings_of_an_answer_are_one_finding_with_their_rows(data):
    plain(data)
    for at, text in ((2, '네'), (4, '응'), (6, 'YES'), (3, '아니요'), (5, '아뇨'), (7, '아니오')):
        row(at, answer=text)(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.findings.counts['answer.spelling'] == 2 and report.findings.exit_code == 1
    described = {finding.description for finding in report.findings.of('answer.spelling')}
    assert "'아니요' (1 rows), '아뇨' (1 rows), '아니오' (1 rows)" in described


def test_most_rows_without_a_class(data):
    plain(data)
    for at in range(2, 8):
        row(at, answer=f'{at} 개')(data)
    (data.root / 'val.jsonl').write_text(''.join((data.root / 'val.jsonl').read_text('utf-8').splitlines(True)[:1]))
    training, val = sources_of_folder(str(data.root), None)
    row(8, answer='빨간색')(data)
    report = verify_all([dataclasses.replace(training, min_count=2), val])
    assert found(report) == [('answer.rare', str(data.root))]


@pytest.mark.parametrize(
    'texts, code',
    [
        ('소파 위에', None),
        ('소파 위에 ' * 40, None),
        ('소파 위에 ' * 40 + 'Ω', 'tokenizer.unknown'),  # 1.2 %
        ('소파 위에 Ω', 'tokenizer.unknown'),
        ('Ω Ж Ξ', 'tokenizer.foreign'),
    ],
)
def test_tokens_that_a_tokenizer_does_not_know(data, tokenizer, texts, code):
    plain(data)
    for split, rows in (('train', 8), ('val', 4)):
        for at in range(1, rows + 1):
            row(at, split, question=f'{texts} {1 + at % 2}')(data)
    report = verify_all(sources_of_folder(str(data.root), str(tokenizer)))
    codes = {finding.code for finding in report.findings} - {'text.no_hangul'}
    assert codes == ({code} if code else set())
    assert report.splits[0]['text_length']['unit'] == 'tokens'
    assert (report.splits[0]['unknown_token_share'] > 0) == bool(code)


def test_a_text_of_more_tokens_than_the_limit(data, tokenizer):
    plain(data)
    place = question('소파 위에 고양이가 1 2 3 4 5 6 7 8 9 마리 있다.')(data)
    sources = [
        dataclasses.replace(source, max_text_len=14) for source in sources_of_folder(str(data.root), str(tokenizer))
    ]
    assert found(verify_all(sources)) == [('text.long', place)]


def test_a_tokenizer_that_is_none(data):
    plain(data)
    report = verify_all(sources_of_folder(str(data.root), str(data.root)))
    assert {finding.code for finding in report.findings} == {'tokenizer.refused'}


def test_one_fault_hides_no_other(data):
    """Two lines, a label file and a zip that cannot be read, and the rows around them."""
    plain(data)
    line('{', 2)(data)
    line('[]', 5)(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert [place.rpartition(' ')[2] for _, place in found(report)] == ['2', '5']
    assert report.splits[0]['rows'] == 6


def test_a_broken_label_file_does_not_hide_the_next(data):
    living(data)
    data.living(images=1, subset='노인 생활거주환경 이미지 수집', first=8)
    cut_labels(data)
    break_label_zip(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.findings.counts == {'labels.refused': 2} and report.splits[0]['rows'] > 3


def test_few_images_are_decoded_and_of_many_the_headers_are_read(data, monkeypatch):
    plain(data)
    image(save_cut, 'cut.jpg')(data)
    sources = sources_of_folder(str(data.root), None)
    for deep, decoded_below, decoded in ((None, 7, True), (None, 6, False), (False, 7, False), (True, 6, True)):
        monkeypatch.setattr(checked_images, 'DECODED_BELOW', decoded_below)
        report = verify_all(sources, deep=deep)
        assert report.images['decoded'] == decoded and bool(found(report)) == decoded
        assert ('6 images, all decoded' if decoded else '6 images, headers only: --deep') in report.lines(5)[2]


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'gif', 'bmp', 'tif'])
def test_reading_a_header_decodes_nothing(tmp_path, monkeypatch, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    place = tmp_path / f'turned.{suffix}'
    noise().save(place, **({} if suffix in ('gif', 'bmp') else {'exif': exif}))
    expected = check_image(place, deep=True)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('the image is decoded'))
    check = check_image(place, deep=False)
    assert check == expected._replace(fingerprint=None)
    assert [code for code, _ in check.faults] == ([] if suffix in ('gif', 'bmp') else ['image.turned'])


def test_processes_find_the_same_in_the_same_order(data):
    rows = []
    for number in range(140):
        (data.root / 'images').mkdir(parents=True, exist_ok=True)
        (data.root / f'images/{number}.png').write_bytes(b'' if number % 7 == 0 else b'no image')
        rows.append({'image': f'images/{number}.png', 'question': QUESTIONS[0], 'answer': '예'})
    write_rows(data, 'train.jsonl', rows)
    sources = sources_of_folder(str(data.root), None)
    alone, together = verify_all(sources, deep=False), verify_all(sources, deep=False, workers=2)
    assert found(alone) == found(together) and together.findings.counts['image.empty'] == 20


def test_a_fault_everywhere_is_counted_and_listed_once(data):
    plain(data)
    for at in range(1, 9):
        row(at, question=f'What is it? {at}')(data)
    report = verify_all(sources_of_folder(str(data.root), None))
    lines = report.lines(3)
    assert any('text.no_hangul  8' in text for text in lines) and '  and 5 more' in lines
    assert sum('no Hangul in' in text for text in lines) == 3 and lines[-1].strip() == '0 errors, 8 warnings, 0 notes'


def test_a_fault_that_all_rows_of_a_file_share_is_one_finding(data):
    plain(data)
    rows = [{'file': f'images/{n % 4}.png', 'question': f'{n}번', 'answer': '예'} for n in range(3000)]
    write_rows(data, 'train.csv', rows)
    (data.root / 'train.jsonl').unlink()
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.findings.severities()['error'] == 1 and report.findings.exit_code == 2


@pytest.mark.parametrize('key', ['image', 'question', 'answer'])
def test_a_key_that_all_rows_spell_otherwise_is_one_error(data, key):
    plain(data)
    path = data.root / 'train.jsonl'
    path.write_text(path.read_text('utf-8').replace(f'"{key}"', f'"{key}_ko"'), 'utf-8')
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.findings.severities()['error'] == 1 and report.splits[0]['rows'] == 0


def test_equal_faults_of_a_file_are_one_finding_with_all_places(data):
    plain(data)
    places = [row(at, answer='')(data) for at in (3, 5, 8)] + [row(2, 'val', answer='')(data)]
    report = verify_all(sources_of_folder(str(data.root), None))
    assert report.findings.counts == {'answer.empty': 2} and report.findings.times == {'answer.empty': 4}
    assert [finding.places for finding in report.findings] == [places[:3], places[3:]]
    assert f'  {places[0]}: there is no answer (3 times)' in report.lines(5)
    assert 'answer.empty  2, 4 times' in '\n'.join(report.lines(5))
    assert [found['times'] for found in report.as_json()['findings']] == [3, 1]
    assert report.as_json()['findings'][0]['other_places'] == places[1:3]


def test_findings_of_a_broken_set_fit_in_memory():
    findings = Findings(max_listed=3)
    for number in range(10):
        findings.add('text.short', f'a.csv, line {number}', f'only {number}')
        findings.add('text.empty', f'a.csv, line {number}', 'there is no text')
    assert findings.counts == {'text.short': 10, 'text.empty': 1}
    assert findings.times == {'text.short': 10, 'text.empty': 10}
    assert len(findings.of('text.short')) == 3 and len(findings.of('text.empty')[0].places) == 3


def test_the_report_as_json(data):
    plain(data)
    row(image='images/9.png')(data)
    content = json.loads(json.dumps(verify_all(sources_of_folder(str(data.root), None)).as_json()))
    assert content['severities'] == {'error': 1, 'warning': 0, 'note': 0}
    assert content['counts'] == {'image.missing': 1} and content['findings'][0]['place'].endswith('line 3')
    assert content['splits'][0]['answers'] == {'빨간색': 4, '예': 4}
    assert content['images']['formats'] == {'PNG': 6} and content['images']['width']['max'] == 48


@pytest.mark.parametrize('layout', [visual, knowledge])
def test_labels_extracted_without_their_folder_are_known(data, layout):
    layout(data)
    for folder in ('1.Training', '2.Validation'):
        for path in (data.root / folder / '라벨링데이터').iterdir():
            path.rename(data.root / folder / path.name)
    sources = sources_of_folder(str(data.root), None)
    assert {source.reader.__name__ for source in sources} == {LAYOUTS[layout]} and not found(verify_all(sources))


def test_a_folder_with_two_sets(data):
    living(data)
    captions(data)
    readers = [(source.reader.__name__, source.name) for source in sources_of_folder(str(data.root), None)]
    assert readers == [
        (name, split) for name in ('AIHubCOCOKoreanReader', 'AIHubLivingReader') for split in ('train', 'val')
    ]


@pytest.mark.parametrize('files, message', [({}, 'no data set that kovilt knows'), (None, 'neither a config')])
def test_folders_without_data(tmp_path, files, message):
    with pytest.raises(KoviltError, match=message):
        sources_of_folder(str(tmp_path if files is not None else tmp_path / 'gone'), None)
