"""Small data sets without faults in every layout, and the ways to plant each kind of fault into them."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from tests.support.pair_data import SUBSET, Data

QUESTIONS = ['소파는 무슨 색입니까', '고양이가 있어요?']
ANSWERS = ['빨간색', '예']
LABELS = f'labels/[라벨]{SUBSET}/{SUBSET}.json'
CAPTION_FILE = 'MSCOCO_train_val_Korean.json'
QUESTION_FILE, ANNOTATION_FILE = 'v2_OpenEnded_mscoco_{}2014_questions.json', 'v2_mscoco_{}2014_annotations.json'


# Sets without faults.


def plain(data: Data, *, table: str = 'jsonl') -> None:
    """Six images with two questions each; the last two are of val."""
    for split, images in (('train', range(4)), ('val', range(4, 6))):
        rows = []
        for number in images:
            data.image(f'images/{number}.png', size=(48, 36), seed=number)
            both = zip(QUESTIONS, ANSWERS, strict=True)
            rows += [{'image': f'images/{number}.png', 'question': text, 'answer': answer} for text, answer in both]
        write_rows(data, f'{split}.{table}', rows)


def plain_csv(data: Data) -> None:
    plain(data, table='csv')


def zipped(data: Data) -> None:
    plain(data)
    data.zip('images.zip', 'images')


def living(data: Data) -> None:
    data.living(images=2)
    data.living(images=1, split='Validation', first=5)


def visual(data: Data) -> None:
    for number, (folder, split) in enumerate((('1.Training', 'train'), ('2.Validation', 'validate'))):
        data.image(f'{folder}/원천데이터/음식/{number}.jpg', size=(48, 36), seed=number)
        within = f'{folder}/라벨링데이터/음식/상_{split}_음식'
        data.write(f'{within}/images.json', {'images': [{'image_id': 1, 'image': f'{number}.jpg'}]})
        questions = [{'question_id': n, 'image_id': 1, 'question': text} for n, text in enumerate(QUESTIONS)]
        data.write(f'{within}/question.json', {'questions': questions})
        annotations = [{'question_id': n, 'multiple_choice_answer': answer} for n, answer in enumerate(ANSWERS)]
        data.write(f'{within}/annotation.json', {'annotations': annotations})


def knowledge(data: Data) -> None:
    for number, folder in enumerate(('1.Training', '2.Validation')):
        data.image(f'{folder}/원천데이터/{number}.jpg', size=(48, 36), seed=number)
        both = enumerate(zip(QUESTIONS, ANSWERS, strict=True))
        questions = [{'question_id': f'{number}{n}', 'question_ko': q, 'answer_ko': a} for n, (q, a) in both]
        row = {'IMAGE_NAME': f'{number}.jpg', 'questions': questions}
        data.write(f'{folder}/라벨링데이터/VQA.json', {'annotations': [row]})


def kvqa(data: Data) -> None:
    for split, numbers in (('train', range(3)), ('val', range(3, 4))):
        rows = []
        for number in numbers:
            data.image(f'images/KVQA_{number}.jpg', size=(48, 36), seed=number)
            answers = [{'answer': answer} for answer in ['예'] * 7 + ['네'] * 3]
            rows.append({'image': f'KVQA_{number}.jpg', 'question': QUESTIONS[1], 'answers': answers})
        data.write(f'KVQA_annotations_{split}.json', rows)


def vqav2(data: Data) -> None:
    for split, number in (('train', 1), ('val', 2)):
        data.image(f'{split}2014/COCO_{split}2014_{number:012d}.jpg', size=(48, 36), seed=number)
        questions = [
            {'question_id': 10 * number + n, 'image_id': number, 'question': q} for n, q in enumerate(QUESTIONS)
        ]
        annotations = [{'question_id': 10 * number + n, 'multiple_choice_answer': a} for n, a in enumerate(ANSWERS)]
        data.write(QUESTION_FILE.format(split), {'questions': questions})
        data.write(ANNOTATION_FILE.format(split), {'annotations': annotations})


def captions(data: Data) -> None:
    data.captions(train=2, val=1)
    for path in data.root.rglob('*.jpg'):
        data.image(str(path.relative_to(data.root)), size=(48, 36), seed=int(path.stem[-3:]))


def parquet(data: Data) -> None:
    kind = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    for split, images in (('train', range(4)), ('validation', range(4, 6))):
        files = [data.image(f'{number}.png', size=(48, 36), seed=number) for number in images for _ in QUESTIONS]
        cells = [{'bytes': file.read_bytes(), 'path': None} for file in files]
        rows = {'question': QUESTIONS * len(images), 'answer': ANSWERS * len(images)}
        table = pa.table({'image': pa.array(cells, kind), **rows})
        (data.root / 'data').mkdir(exist_ok=True)
        pq.write_table(table, data.root / 'data' / f'{split}-00000-of-00001.parquet')
    for file in data.root.glob('*.png'):
        file.unlink()


def tsv(data: Data) -> None:
    for split, images in (('TRAIN', range(4)), ('DEV', range(4, 6))):
        lines = ['index\timage\tquestion\tA\tB\tanswer\tcategory']
        for number in images:
            file = data.image(f'{number}.png', size=(48, 36), seed=number)
            text = base64_of(file)
            file.unlink()
            lines.append(f'{number}\t{text}\t{QUESTIONS[0]}\t{ANSWERS[0]}\t파란색\tA\t색')
        data.write(f'MMBench_{split}_KO.tsv', '\n'.join(lines) + '\n')


def conversations(data: Data) -> None:
    for split, images in (('train', range(4)), ('val', range(4, 6))):
        rows = []
        for number in images:
            data.image(f'images/{number}.png', size=(48, 36), seed=number)
            turns = [{'from': 'human', 'value': f'<image>\n{QUESTIONS[1]}'}, {'from': 'gpt', 'value': ANSWERS[1]}]
            rows.append({'id': number, 'image': f'images/{number}.png', 'conversations': turns})
        data.write(f'{split}.json', rows)


def shards(data: Data) -> None:
    data.root.mkdir(exist_ok=True)
    for split, images in (('train', range(4)), ('val', range(4, 6))):
        with tarfile.open(data.root / f'{split}-0.tar', 'w') as tar:
            for number in images:
                file = data.image(f'{number}.png', size=(48, 36), seed=number)
                caption = data.write(f'{number}.txt', f'방 안에 의자가 {number}개 있다.')
                for path in (file, caption):
                    tar.add(path, path.name)
                    path.unlink()


def question_shards(data: Data) -> None:
    data.root.mkdir(exist_ok=True)
    for split, images in (('train', range(4)), ('val', range(4, 6))):
        with tarfile.open(data.root / f'{split}-0.tar', 'w') as tar:
            for number in images:
                rows = [{'question': q, 'answer': a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
                file = data.image(f'{number}.png', size=(48, 36), seed=number)
                for path in (file, data.write(f'{number}.json', rows)):
                    tar.add(path, path.name)
                    path.unlink()


def conversation_cells(data: Data) -> None:
    conversations(data)
    kind = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    for file in [*data.root.glob('*.json')]:
        rows = json.loads(file.read_text('utf-8'))
        cells = [{'bytes': (data.root / row['image']).read_bytes(), 'path': None} for row in rows]
        turns = [row['conversations'] for row in rows]
        table = pa.table({'image': pa.array(cells, kind), 'conversations': turns})
        pq.write_table(table, file.with_suffix('.parquet'))
        file.unlink()
    shutil.rmtree(data.root / 'images')


def in_base64(data: Data) -> None:
    plain(data)
    for file in data.root.glob('*.jsonl'):
        rows = [json.loads(line) for line in file.read_text('utf-8').splitlines()]
        write_rows(data, file.name, [{**row, 'image': base64_of(data.root / row['image'])} for row in rows])
    shutil.rmtree(data.root / 'images')


def base64_of(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def dialogue(data: Data) -> None:
    for number, folder in enumerate(('1.Training', '2.Validation')):
        data.image(f'{folder}/원천데이터/{number}.jpg', size=(48, 36), seed=number)
        turns = [{'question': q, 'answer': a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
        record = {'image': f'{number}.jpg', 'instruction': {'persona': '어린이'}, 'scene': '거실', 'qa': turns}
        data.write(f'{folder}/라벨링데이터/{number}.json', record)


LAYOUTS = {
    plain: 'PlainReader',
    plain_csv: 'PlainReader',
    zipped: 'PlainReader',
    living: 'AIHubLivingReader',
    visual: 'AIHubVisualReader',
    knowledge: 'AIHubKnowledgeReader',
    kvqa: 'KVQAReader',
    vqav2: 'VQAv2Reader',
    captions: 'AIHubCOCOKoreanReader',
    parquet: 'ParquetReader',
    tsv: 'TSVReader',
    conversations: 'LLaVAReader',
    shards: 'WebDatasetReader',
    question_shards: 'WebDatasetQuestionReader',
    conversation_cells: 'LLaVAReader',
    in_base64: 'PlainReader',
    dialogue: 'AIHubDialogueReader',
}


def write_rows(data: Data, name: str, rows: list[dict]) -> None:
    if name.endswith('.jsonl'):
        data.write(name, ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows))
        return
    with open(data.root / name, 'w', encoding='utf-8', newline='') as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


# Ways to plant a fault. Each is called with the data and returns the place where it must be found.

Plant = Callable[[Data], str]


def row(line: int = 3, split: str = 'train', **values: Any) -> Plant:
    """Another row in that line of a JSONL file; a value of None takes the key away."""

    def plant(data: Data) -> str:
        path = data.root / f'{split}.jsonl'
        lines = path.read_text('utf-8').splitlines()
        changed = {**json.loads(lines[line - 1]), **values}
        lines[line - 1] = json.dumps({k: v for k, v in changed.items() if v is not None}, ensure_ascii=False)
        path.write_text('\n'.join(lines) + '\n', 'utf-8')
        return f'{path}, line {line}'

    return plant


def more(split: str = 'train', **values: Any) -> Plant:
    """One more row at the end."""

    def plant(data: Data) -> str:
        path = data.root / f'{split}.jsonl'
        lines = path.read_text('utf-8').splitlines()
        path.write_text('\n'.join([*lines, json.dumps({**json.loads(lines[0]), **values})]) + '\n', 'utf-8')
        return f'{path}, line {len(lines) + 1}'

    return plant


def line(text: str, number: int = 3, name: str = 'train.jsonl') -> Plant:
    """That line of a file as it stands here, any bytes."""

    def plant(data: Data) -> str:
        lines = (data.root / name).read_bytes().splitlines()
        lines[number - 1] = text.encode('utf-8', 'surrogateescape')
        (data.root / name).write_bytes(b'\n'.join(lines) + b'\n')
        return f'{data.root / name}, line {number}'

    return plant


def in_json(name: str, change: Callable[[Any], object], place: str) -> Plant:
    """A JSON file after `change`; `place` is where the fault must be found, beneath the root."""

    def plant(data: Data) -> str:
        content = json.loads((data.root / name).read_text('utf-8'))
        change(content)
        data.write(name, content)
        return f'{data.root / place}' if place else str(data.root)

    return plant


def image(save: Callable[[Path], object], name: str = '1.png') -> Plant:
    """One training image written anew; with another name its rows are about that one."""

    def plant(data: Data) -> str:
        path = data.root / 'images' / name
        save(path)
        for at in (3, 4):
            row(at, image=f'images/{name}')(data)
        return str(path)

    return plant


def noise(mode: str = 'RGB', size: tuple[int, int] = (48, 36), seed: int = 99) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode) if mode != 'CMYK' else Image.fromarray(pixels, 'CMYK')


def save_turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise().save(path, exif=exif)


def save_huge(path: Path) -> None:
    """A PNG whose header promises 400 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'0' * 100)))


def save_cut(path: Path) -> None:
    noise().save(path, 'JPEG')
    path.write_bytes(path.read_bytes()[:-400])


def copy_of(name: str) -> Callable[[Path], object]:
    return lambda path: shutil.copy(path.parent / name, path)


def damage_member(data: Data) -> str:
    path = data.root / 'images.zip'
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo('1.png')
    content = bytearray(path.read_bytes())
    content[member.header_offset + 30 + len('1.png') + 200] ^= 255
    path.write_bytes(bytes(content))
    return f'{path}/1.png'


def break_label_zip(data: Data) -> str:
    (data.root / 'Training' / f'[라벨]{SUBSET}_2.zip').write_bytes(b'PK\x03\x04 cut off')
    return str(data.root / 'Training' / f'[라벨]{SUBSET}_2.zip')


def cut_labels(data: Data) -> str:
    path = data.root / 'Training' / LABELS
    lines = path.read_text('utf-8').splitlines()
    path.write_text('\n'.join(lines[:-3]), 'utf-8')
    return f'{path}, line {len(lines) - 3}'


def two_tables(data: Data) -> str:
    data.write('train.csv', 'image,question,answer\n')
    return str(data.root)


def an_incomplete_download(data: Data) -> str:
    data.write('more.zip.part0', 'x')
    return str(data.root / 'more.zip.part0')


def no_rows(data: Data) -> str:
    data.write('val.jsonl', '\n\n')
    return str(data.root)


def no_val(data: Data) -> str:
    (data.root / 'val.jsonl').unlink()
    return str(data.root)


def no_annotation(data: Data) -> str:
    folder = data.root / '1.Training/라벨링데이터/음식/상_train_음식'
    (folder / 'annotation.json').unlink()
    return str(folder)


def same_answers(data: Data) -> str:
    rows = [{'image': f'images/{n % 4}.png', 'question': f'{n}번 의자는 무슨 색', 'answer': '예'} for n in range(60)]
    both = zip(QUESTIONS, ANSWERS, strict=True)
    write_rows(data, 'train.jsonl', rows + [{**rows[0], 'question': q, 'answer': a} for q, a in both])
    return str(data.root)


def both(first: Plant, second: Plant) -> Plant:
    """Two changes; the fault is where the second is."""

    def plant(data: Data) -> str:
        first(data)
        return second(data)

    return plant


def scene() -> Image.Image:
    """An image with shapes, which survive encoding, as noise does not."""
    pixels = np.linspace(60, 180, 240 * 320 * 3).reshape(240, 320, 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for at, color in enumerate(('red', 'navy', 'gold', 'green', 'white', 'black')):
        draw.ellipse((10 + 50 * at, 20 + 31 * (at % 4), 50 + 55 * at, 90 + 27 * at), fill=color)
    return image


def copy_in_val(change: Callable[[Image.Image], Image.Image]) -> Plant:
    def plant(data: Data) -> str:
        scene().save(data.root / 'images/1.png')
        change(scene()).save(data.root / 'images/copy.jpg', quality=60)
        row(2, 'val', image='images/copy.jpg')(data)
        return row(1, 'val', image='images/copy.jpg')(data)

    return plant


def question(text: str) -> Plant:
    return row(question=text)


def answer(text: str) -> Plant:
    return row(answer=text)


NFD = unicodedata.normalize('NFD', QUESTIONS[0])
SCRAMBLED = '소파 색깔'.encode().decode('latin-1')
WINDOWS = '소파 색깔'.encode('cp949').decode('latin-1')
FOLDER_104 = '2.Validation/라벨링데이터/음식/상_validate_음식'

PLANTS: list[tuple[str, str, Callable[[Data], None], Plant]] = [  # what, its code, the set, how it is planted
    # What a reader refuses.
    ('a line cut off', 'labels.refused', plain, line('{"image": ')),
    ('a line that is no object', 'labels.refused', plain, line('[1, 2]')),
    ('a row without image', 'labels.refused', plain, row(image=None)),
    ('a row without question', 'labels.refused', plain, row(question=None)),
    ('a row without answer', 'labels.refused', plain, row(answer=None)),
    ('an image without a name', 'labels.refused', plain, row(image='')),
    ('an answer that is a list', 'labels.refused', plain, row(answer=['예'])),
    ('answers that are no list', 'labels.refused', plain, row(answers='예')),
    ('bytes that are no UTF-8', 'labels.refused', plain, line('{"question": "\udcbc\udcd2"}', 8)),
    ('a cell too many', 'labels.refused', plain_csv, line('images/0.png,가나,예,네', name='train.csv')),
    ('a quote within a cell', 'labels.refused', plain_csv, line('images/0.png,"가"나,예', name='train.csv')),
    ('two tables of a split', 'set.refused', plain, two_tables),
    ('an incomplete download', 'set.refused', plain, an_incomplete_download),
    ('labels cut off', 'labels.refused', living, cut_labels),
    ('a zip of labels cut off', 'labels.refused', living, break_label_zip),
    ('a question without image_id', 'labels.refused', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].pop('image_id'), f'Training/{LABELS}, line 52')),
    ('a file of three that is not there', 'labels.refused', visual, no_annotation),
    ('questions that are no list', 'labels.refused', knowledge,
     in_json('1.Training/라벨링데이터/VQA.json', lambda c: c['annotations'][0].update(questions='?'),
             '1.Training/라벨링데이터/VQA.json, line 3')),
    ('captions without file_path', 'labels.refused', captions,
     in_json(CAPTION_FILE, lambda c: c.insert(0, {'id': 7}), f'{CAPTION_FILE}, line 2')),
    ('answers of another form', 'labels.refused', kvqa,
     in_json('KVQA_annotations_train.json', lambda c: c[0].update(answers=[['예']]),
             'KVQA_annotations_train.json, line 2')),
    ('an annotation without question', 'row.left_out', vqav2,
     in_json(ANNOTATION_FILE.format('train'), lambda c: c['annotations'].append({'question_id': 99}),
             f'{ANNOTATION_FILE.format("train")}, line 11')),
    ('a question without annotation', 'row.left_out', vqav2,
     in_json(QUESTION_FILE.format('train'),
             lambda c: c['questions'].append({**c['questions'][0], 'question_id': 99}), '')),
    ('a question_id asked twice', 'row.left_out', vqav2,
     in_json(QUESTION_FILE.format('train'), lambda c: c['questions'].append(c['questions'][0]),
             f'{QUESTION_FILE.format("train")}, line 13')),
    ('a split without rows', 'split.empty', plain, no_rows),
    # Images.
    ('an image that is not there', 'image.missing', plain, row(image='images/9.png')),
    ('an image that is listed nowhere', 'image.missing', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].update(image_id=1), f'Training/{LABELS}, line 52')),
    ('a caption without its image', 'image.missing', captions,
     in_json(CAPTION_FILE, lambda c: c[0].update(file_path='train2014/gone.jpg', id=77), f'{CAPTION_FILE}, line 2')),
    ('a file of no bytes', 'image.empty', plain, image(lambda path: path.write_bytes(b''))),
    ('a text that is called an image', 'image.unreadable', plain, image(lambda path: path.write_text('404'))),
    ('a zip that is damaged', 'image.unreadable', zipped, damage_member),
    ('an image cut off', 'image.broken', plain, image(save_cut, 'cut.jpg')),
    ('too many pixels', 'image.too_large', plain, image(save_huge)),
    ('a thumbnail', 'image.tiny', plain, image(lambda path: noise(size=(20, 16)).save(path))),
    ('a strip', 'image.thin', plain, image(lambda path: noise(size=(800, 36)).save(path))),
    ('an animation', 'image.animated', plain,
     image(lambda path: noise().save(path, save_all=True, append_images=[noise(seed=1)]))),
    ('an image of one color', 'image.blank', plain, image(lambda path: Image.new('RGB', (48, 36)).save(path))),
    ('an image twice', 'image.repeated', plain, image(copy_of('0.png'), 'again.png')),
    ('CMYK', 'image.mode', plain, image(lambda path: noise('CMYK').save(path), 'print.jpg')),
    ('grey of 16 bits', 'image.mode', plain,
     image(lambda path: Image.fromarray(np.arange(48 * 36, dtype=np.uint16).reshape(36, 48)).save(path))),
    ('transparency', 'image.mode', plain, image(lambda path: noise('RGBA').save(path))),
    ('a photograph that lies on its side', 'image.turned', plain, image(save_turned, 'turned.jpg')),
    ('a PNG called .jpg', 'image.suffix', plain, image(lambda path: noise().save(path, 'PNG'), 'false.jpg')),
    # Texts.
    ('an empty question', 'text.empty', plain, question(' ')),
    ('an empty caption', 'text.empty', captions,
     in_json(CAPTION_FILE, lambda c: c[0]['caption_ko'].append(''), f'{CAPTION_FILE}, line 2')),
    ('UTF-8 read as Latin-1', 'text.mojibake', plain, question(SCRAMBLED)),
    ('CP949 read as Latin-1', 'text.mojibake', plain, question(WINDOWS)),
    ('characters lost', 'text.replaced', plain, question('소파는 무\ufffd 색')),
    ('a tag', 'text.markup', plain, question('소파는<br>무슨 색')),
    ('an entity', 'text.markup', plain, question('&quot;소파&quot;는 무슨 색')),
    ('an initial consonant alone', 'text.jamo', plain, question('소파는 \u110f무슨 색')),
    ('English', 'text.no_hangul', plain, question('What color is the sofa?')),
    ('an essay', 'text.long', plain, question('소파는 무슨 색입니까 ' * 30)),
    ('one character', 'text.short', plain, question('뭐')),
    ('decomposed Hangul', 'text.decomposed', plain, question(NFD)),
    ('a blank of no width', 'text.invisible', plain, question('소파\u200b는 무슨 색')),
    ('a row twice', 'text.repeated', plain, more()),
    ('a caption twice', 'text.repeated', captions,
     in_json(CAPTION_FILE, lambda c: c[0]['caption_ko'].append(c[0]['caption_ko'][0]), f'{CAPTION_FILE}, line 2')),
    # Ids and types.
    ('an empty id', 'id.empty', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].update(question_id=' '), f'Training/{LABELS}, line 52')),
    ('an id twice', 'id.repeated', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].update(question_id=2), f'Training/{LABELS}, line 52')),
    ('an id of two images', 'id.shared', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].update(question_id=6), f'Training/{LABELS}, line 52')),
    ('a row without type', 'type.missing', living,
     in_json(f'Training/{LABELS}', lambda c: c['question'][-1].pop('answer_type'), f'Training/{LABELS}, line 52')),
    # Answers.
    ('an empty answer', 'answer.empty', plain, answer('')),
    ('a question whose annotation is not there', 'answer.empty', visual,
     in_json(f'{FOLDER_104}/annotation.json', lambda c: c['annotations'].pop(0),
             f'{FOLDER_104}/question.json, line 3')),
    ('an empty cell of a table', 'answer.placeholder', plain, answer('nan')),
    ('a scrambled answer', 'answer.mojibake', plain, answer(SCRAMBLED)),
    ('an answer with lost characters', 'answer.replaced', plain, answer('빨\ufffd색')),
    ('an entity in an answer', 'answer.markup', plain, answer('빨간색&amp;노란색')),
    ('a vowel alone in an answer', 'answer.jamo', plain, answer('빨간색\u1161')),
    ('a sentence', 'answer.long', plain, answer('소파는 밝은 빨간색이고 의자는 어두운 파란색이며 탁자는 하얀색입니다')),
    ('blanks', 'answer.spelling', plain, answer('빨간 색')),
    ('a full stop', 'answer.spelling', plain, answer('빨간색.')),
    ('another word for yes', 'answer.spelling', plain, row(4, answer='네')),
    ('yes in English', 'answer.spelling', plain, row(4, answer='Yes')),
    ('a numeral in words', 'answer.spelling', plain, both(row(1, answer='1마리'), row(3, answer='한 마리'))),
    ('capitals', 'answer.case', plain, both(row(1, answer='TV'), row(3, answer='tv'))),
    ('a blank between Latin letters and digits', 'answer.case', plain,
     both(row(1, answer='GS25'), row(3, answer='GS 25'))),
    ('another answer', 'answer.contradictory', plain, more(answer='예')),
    ('nine of ten people', 'answer.number', kvqa,
     in_json('KVQA_annotations_train.json', lambda c: c[0].update(answers=[*c[0]['answers'][1:]]),
             'KVQA_annotations_train.json, line 2')),
    ('one answer to everything', 'answer.majority', plain, same_answers),
    ('an answer that training never saw', 'answer.only_in_val', plain, row(split='val', answer='보라색')),
    # Splits.
    ('an image of training in val', 'leak.image', plain, row(split='val', image='images/1.png')),
    ('a training image that was encoded again in val', 'leak.copy', plain, copy_in_val(lambda scene: scene)),
    ('a training image at half its size in val', 'leak.copy', plain,
     copy_in_val(lambda scene: scene.resize((160, 120)))),
    ('a training image without its margin in val', 'leak.copy', plain,
     copy_in_val(lambda scene: scene.crop((4, 3, 316, 237)))),
    ('a copy of a training image in val', 'leak.content', plain,
     both(lambda data: shutil.copy(data.root / 'images/1.png', data.root / 'images/copy.png'),
          row(split='val', image='images/copy.png'))),
]  # fmt: skip
