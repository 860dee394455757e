"""The inferencer answers each pair as if it were alone, reads an image once, and refuses bad input by name."""

import io
import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import ANSWERS, IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_checkpoint, tiny_config, tiny_model, tiny_tokenizer

from kovilt.apis import VQAInferencer, precision
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.modules import int8
from kovilt.weights import save_model_folder

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?', '책은 몇 개 ?', '의자 위에 책이 있어요 ?']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return save_model_folder(
        tiny_model(),
        tiny_tokenizer(),
        tmp_path_factory.mktemp('models') / 'vqa',
        model_cfg=tiny_config(),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@pytest.fixture(scope='module')
def inferencer(folder):
    return VQAInferencer(folder, device='cpu', batch_size=3)


def image(seed, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def close(ours, theirs):
    return all(
        a['answer'] == b['answer']
        and abs(a['score'] - b['score']) < 1e-5
        and [row['answer'] for row in a['topk']] == [row['answer'] for row in b['topk']]
        for a, b in zip(ours, theirs, strict=True)
    )


def test_a_result_is_plain_and_its_scores_are_probabilities(inferencer):
    (result,) = inferencer(image(0), QUESTIONS[0])
    assert result.keys() == {'answer', 'score', 'topk', 'unknown_token_share'}
    scores = [row['score'] for row in result['topk']]
    assert {row['answer'] for row in result['topk']} == set(ANSWERS)
    assert all(type(score) is float for score in scores) and scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert result['topk'][0] == dict(answer=result['answer'], score=result['score'])


def test_it_shows_what_it_is_in_one_line_and_in_a_notebook(inferencer, folder):
    shown = repr(inferencer)
    assert shown.startswith(f'VQAInferencer(source={str(folder)!r}, model=') and len(shown.splitlines()) == 1
    assert f"answers={len(ANSWERS)}, precision='float32', device='cpu')" in shown
    inferencer_html = inferencer._repr_html_()
    assert inferencer_html.startswith('<table>') and f'>{folder}</td>' in inferencer_html


def test_each_pair_is_answered_as_if_alone_and_in_order(inferencer):
    """Seven pairs in batches of three, images of three shapes in mixed order."""
    tall, long = image(1, 64, 32), image(2, 33, 200)
    images = [image(0), tall, image(0), long, tall, image(0), image(3)]
    questions = [*QUESTIONS, *QUESTIONS[:3]]
    together = inferencer(images, questions)
    alone = [inferencer(p, q)[0] for p, q in zip(images, questions, strict=True)]
    assert close(together, alone)
    assert len({result['score'] for result in together}) == 7
    assert together == inferencer(images, questions)


def test_a_single_image_or_question_is_paired_with_all_of_the_other(inferencer):
    one, many = image(0), [image(i) for i in range(4)]
    assert close(inferencer(one, QUESTIONS), inferencer([one] * 4, QUESTIONS))
    assert close(inferencer(many, QUESTIONS[0]), inferencer(many, QUESTIONS[:1] * 4))
    assert inferencer([], []) == []
    for images, questions in ((many, QUESTIONS[:2]), ([], QUESTIONS[:2]), (many, [])):
        with pytest.raises(KoviltError, match='images and .* questions: give as many'):
            inferencer(images, questions)


def test_paths_images_and_arrays_are_the_same_image(inferencer, tmp_path):
    pixels = image(5)
    file = tmp_path / 'room.png'
    Image.fromarray(pixels).save(file)
    results = inferencer([file, str(file), Image.open(file), pixels], QUESTIONS[1])
    assert close(results, [results[0]] * 4)
    grey = pixels[:, :, 0]
    assert close(inferencer(grey, QUESTIONS[1]), inferencer(np.stack([grey] * 3, axis=2), QUESTIONS[1]))
    Image.fromarray(pixels).convert('RGBA').save(tmp_path / 'alpha.png')
    assert close(inferencer(tmp_path / 'alpha.png', QUESTIONS[1]), results[:1])


def test_a_shared_image_is_read_and_packed_once(inferencer, tmp_path, monkeypatch):
    file = tmp_path / 'room.png'
    Image.fromarray(image(6)).save(file)
    other, read, packed = image(7), [], []
    read_image, collate = inferencer._read_image, inferencer._collate
    monkeypatch.setattr(inferencer, '_read_image', lambda n, p: read.append(n) or read_image(n, p))
    monkeypatch.setattr(inferencer, '_collate', lambda samples: packed.append(collate(samples)) or packed[-1])
    inferencer([file, other, str(file), other, file, file], QUESTIONS[0])
    assert read == [0, 1]
    assert [len(batch['grids']) for (batch,) in packed] == [1, 2]  # three times file, then file, other, other


@pytest.fixture(scope='module')
def prefix_folder(tmp_path_factory):
    return save_model_folder(
        tiny_model(type='PrefixViLT'),
        tiny_tokenizer(),
        tmp_path_factory.mktemp('models') / 'prefix',
        model_cfg=tiny_config(type='PrefixViLT'),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


def test_a_cached_image_gives_exactly_the_answers_of_one_encoded_again(prefix_folder, tmp_path):
    file = tmp_path / 'room.png'
    Image.fromarray(image(1, 64, 32)).save(file)
    images = [image(0), file, image(2), file, image(0), file]
    questions = [*QUESTIONS, QUESTIONS[1], QUESTIONS[0]]
    without_cache, with_cache = (
        VQAInferencer(prefix_folder, device='cpu', batch_size=4, image_cache_size=n) for n in (0, 16)
    )
    expected = without_cache(images, questions)
    assert with_cache(images, questions) == expected and with_cache(images, questions) == expected
    assert without_cache(images, questions) == expected and len({result['score'] for result in expected}) == 6
    for i in (1, 4):  # after other questions, too
        assert with_cache(images[i], questions[i]) == without_cache(images[i], questions[i])
        assert close(with_cache(images[i], questions[i]), expected[i : i + 1])


def test_a_cached_image_is_neither_read_nor_encoded_again(prefix_folder, tmp_path, monkeypatch):
    file = tmp_path / 'room.png'
    Image.fromarray(image(1)).save(file)
    inferencer = VQAInferencer(prefix_folder, device='cpu', image_cache_size=2)
    read, encoded, encoder = [], [], inferencer.model.encoder
    read_image, embed_images = inferencer._read_image, encoder.embed_images
    monkeypatch.setattr(inferencer, '_read_image', lambda n, p: read.append(n) or read_image(n, p))
    monkeypatch.setattr(encoder, 'embed_images', lambda p, g: encoded.append(g) or embed_images(p, g))
    first = inferencer(file, QUESTIONS)
    assert (len(read), len(encoded)) == (1, 1) and inferencer(str(file), QUESTIONS) == first
    assert (len(read), len(encoded)) == (1, 1)  # a file is not even decoded again
    (tmp_path / 'again').mkdir()
    shutil.copy2(file, tmp_path / 'again' / 'other.png')
    assert inferencer(tmp_path / 'again' / 'other.png', QUESTIONS) == first
    assert (len(read), len(encoded)) == (1, 1)  # nor under another name
    inferencer(image(1), QUESTIONS[0])
    inferencer(image(1), QUESTIONS[1])
    assert (len(read), len(encoded)) == (3, 2)  # an array is identified by its pixels
    before = file.stat()
    file.write_bytes(padded_jpeg(image(9), len(file.read_bytes())))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert inferencer(file, QUESTIONS) != first and len(encoded) == 3  # another image of the same name, size and time
    inferencer(image(1), QUESTIONS[0])
    assert len(encoded) == 3
    inferencer([image(2), image(3)], QUESTIONS[0])
    inferencer(image(1), QUESTIONS[0])
    assert len(encoded) == 6  # two images are cached; those used longest ago leave


def padded_jpeg(pixels, size):
    """An image file of so many bytes, the last of which no decoder reads."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'JPEG')
    return content.getvalue().ljust(size, b'\0')


def test_the_cache_is_bounded(prefix_folder):
    """Keys and values of each block in float32 for each of the last images, and nothing else that stays in memory."""
    inferencer = VQAInferencer(prefix_folder, device='cpu', image_cache_size=3)
    for number in range(5):
        inferencer(image(number), QUESTIONS[0])
    cached = list(inferencer._image_cache._images.values())
    encoded = [image['encoded'] for image in cached]
    positions = 1 + 4 * 6  # CLS and patches of 8 pixels, of 40 x 60
    held = sum(block.untyped_storage().nbytes() for images in encoded for block in images.keys_values)
    assert (
        len(inferencer._image_cache) == 3 and held == 3 * 2 * positions * 2 * 16 * 4
    )  # images, blocks, ..., K and V, D, bytes
    assert all(images.inputs is None for images in encoded)
    assert all(image['patches'].nbytes == 0 for image in cached)


@pytest.mark.parametrize('name', ['int8', 'bfloat16'])
@pytest.mark.parametrize('kind', ['joint', 'prefix'])
def test_other_precisions_answer_nearly_the_same_and_only_on_request(folder, prefix_folder, kind, name, monkeypatch):
    monkeypatch.setattr(precision, 'has_fast_bfloat16', lambda: True)
    place = {'joint': folder, 'prefix': prefix_folder}[kind]
    plain, inferencer = (VQAInferencer(place, device='cpu', precision=one) for one in ('float32', name))
    assert (VQAInferencer(place, device='cpu').precision, inferencer.precision) == ('float32', name)
    images = [image(number) for number in range(4)]
    expected, ours = plain(images, QUESTIONS), inferencer(images, QUESTIONS)
    for mine, theirs in zip(ours, expected, strict=True):
        scores = {row['answer']: row['score'] for row in theirs['topk']}
        assert all(abs(row['score'] - scores[row['answer']]) < 0.03 for row in mine['topk'])
    assert ours != expected and inferencer(images, QUESTIONS) == ours
    if kind == 'prefix':  # cached or encoded again: exactly equal here, too
        assert VQAInferencer(place, device='cpu', precision=name, image_cache_size=0)(images, QUESTIONS) == ours


def test_bfloat16_is_what_training_computes_in_and_a_slow_processor_is_named(folder, monkeypatch):
    """The same scores as under autocast, whose weights are converted at every call; heads and norms stay float32."""
    monkeypatch.setattr(precision, 'has_fast_bfloat16', lambda: False)
    with pytest.warns(KoviltWarning, match='precision bfloat16: this processor computes it slower than float32'):
        ours = VQAInferencer(folder, device='cpu', precision='bfloat16')
    monkeypatch.setattr(precision, 'has_fast_bfloat16', lambda: True)
    found = ours([image(0), image(1)], QUESTIONS[0])
    with torch.autocast('cpu', torch.bfloat16):
        expected = VQAInferencer(folder, device='cpu')([image(0), image(1)], QUESTIONS[0])
    assert close(found, expected)
    dtypes = {type(m).__name__: m.weight.dtype for m in ours.model.modules() if hasattr(m, 'weight')}
    assert dtypes['Linear'] == torch.bfloat16 and dtypes['LayerNorm'] == dtypes['Embedding'] == torch.float32


def test_int8_is_refused_where_it_is_not_supported(folder, monkeypatch):
    for arguments, message in (
        (dict(precision='int4'), "precision='int4': give one of float32, bfloat16, int8"),
        (dict(precision='int8', device='cuda'), 'precision int8 is for CPUs; leave out the device cuda'),
    ):
        with pytest.raises(KoviltError, match=message):
            VQAInferencer(folder, **arguments)
    monkeypatch.setattr(int8, '_is_exact', lambda: False)
    with pytest.raises(KoviltError, match='precision int8: this processor has no exact products of int8') as caught:
        VQAInferencer(folder, precision='int8')
    assert '\n' not in str(caught.value)


def test_transformers_does_not_warn_of_the_model_type_of_a_prefix_folder(prefix_folder, caplog):
    VQAInferencer(prefix_folder, device='cpu')
    assert caplog.text == ''


def test_other_models_have_no_cache_and_a_bad_cache_size_is_refused(inferencer, prefix_folder):
    assert inferencer._image_cache is None
    for number in (-1, 1.5, True):
        with pytest.raises(KoviltError, match='image_cache_size='):
            VQAInferencer(prefix_folder, device='cpu', image_cache_size=number)


def test_topk_is_clipped_to_the_answers(inferencer):
    assert len(inferencer(image(0), QUESTIONS[0], topk=2)[0]['topk']) == 2
    assert len(inferencer(image(0), QUESTIONS[0], topk=99)[0]['topk']) == len(ANSWERS)
    for topk in (0, -1, 1.5, True, None):
        with pytest.raises(KoviltError, match='topk='):
            inferencer(image(0), QUESTIONS[0], topk=topk)


def test_a_question_is_normalised_as_in_training(inferencer):
    import unicodedata

    messy = '\u200b ' + unicodedata.normalize('NFD', QUESTIONS[1]).replace(' ', '\t\n ')
    assert inferencer(image(0), messy) == inferencer(image(0), QUESTIONS[1])


def test_a_question_that_is_cut_gives_a_warning(inferencer):
    with pytest.warns(UserWarning, match='question 0: only its first 10 of 30 tokens are read'):
        inferencer(image(0), '책 ' * 30)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        inferencer(image(0), '책 ' * 10)


@pytest.mark.parametrize(
    ('question', 'message'),
    [
        ('', 'question 1: it is empty'),
        (' \t\u200b\n', 'question 1: it is empty'),
        (None, 'question 1: None is a NoneType'),
        (b'abc', "question 1: b'abc' is a bytes"),
        ('소파 ' * 5000, 'question 1: 14,999 characters \\(소파 소파'),
    ],
)
def test_a_bad_question_is_refused_by_its_number(inferencer, question, message):
    with pytest.raises(KoviltError, match=message) as caught:
        inferencer(image(0), [QUESTIONS[0], question])
    assert '\n' not in str(caught.value)


def bad_files(folder):
    whole = folder / 'whole.jpg'
    Image.fromarray(image(8)).save(whole)
    (folder / 'cut.jpg').write_bytes(whole.read_bytes()[:500])
    (folder / 'text.jpg').write_text('not an image')
    Image.fromarray(image(8, 1, 300)).save(folder / 'line.png')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda folder: folder / 'none.jpg', 'image 1: .*none.jpg: no such file'),
        (lambda folder: folder / 'cut.jpg', 'image 1: .*cut.jpg: not a readable image'),
        (lambda folder: folder / 'text.jpg', 'image 1: .*text.jpg: not a readable image'),
        (lambda folder: folder, 'image 1: '),
        (lambda folder: folder / 'line.png', 'image 1: .*line.png: 300 x 1 pixels'),
        (lambda folder: image(0).astype(np.float32), 'image 1: .*float32'),
        (lambda folder: image(0)[None], 'image 1: .*shape \\(1, 40, 60, 3\\)'),
        (lambda folder: image(0)[:0], 'image 1: .*shape \\(0, 60, 3\\)'),
        (lambda folder: np.zeros((9, 9, 5), np.uint8), 'image 1: .*shape \\(9, 9, 5\\)'),
        (lambda folder: image(0)[:1], 'image 1: 60 x 1 pixels'),
        (lambda folder: None, 'image 1: a NoneType; give a path'),
        (lambda folder: b'', 'image 1: a bytes; give a path'),
    ],
)
def test_a_bad_image_is_refused_by_its_number(inferencer, tmp_path, make, message):
    bad_files(tmp_path)
    bad = make(tmp_path)
    with pytest.raises(KoviltError, match=message) as caught:
        inferencer([image(0), bad], QUESTIONS[0])
    assert '\n' not in str(caught.value)


def test_a_checkpoint_answers_as_its_model_folder(inferencer, tmp_path):
    checkpoint = tiny_checkpoint(tmp_path)
    expected = inferencer(image(0), QUESTIONS)
    for model in (checkpoint, tmp_path):
        assert VQAInferencer(model, device='cpu', batch_size=3)(image(0), QUESTIONS) == expected
    with pytest.raises(KoviltError, match='holds a ViLTForPreTraining, .* or ViLTForVQA or METERForVQA is needed'):
        VQAInferencer(tiny_checkpoint(tmp_path / 'pretrained', 'ViLTForPreTraining'))
    moved = (tmp_path / 'tokenizer').rename(tmp_path / 'moved')
    with pytest.raises(KoviltError, match='tokenizer'):
        VQAInferencer(checkpoint)
    assert close(VQAInferencer(checkpoint, device='cpu', tokenizer=str(moved))(image(0), QUESTIONS), expected)


def test_a_model_trained_without_images_ignores_them(tmp_path):
    folder = save_model_folder(
        tiny_model(),
        tiny_tokenizer(),
        tmp_path / 'no_images',
        model_cfg=tiny_config(),
        image_pipeline=[dict(type='NoImage')],
        max_text_len=MAX_TEXT_LEN,
    )
    first, second = VQAInferencer(folder, device='cpu')([image(0), image(1)], QUESTIONS[0])
    assert first['topk'] == second['topk']


def test_an_unregistered_transform_is_refused_by_name(tmp_path):
    folder = save_model_folder(
        tiny_model(),
        tiny_tokenizer(),
        tmp_path / 'vqa',
        model_cfg=tiny_config(),
        image_pipeline=[dict(type='MyResize')],
        max_text_len=MAX_TEXT_LEN,
    )
    with pytest.raises(KoviltError, match='MyResize.* name the config that does') as caught:
        VQAInferencer(folder)
    assert '\n' not in str(caught.value)


def test_a_device_that_does_not_exist_is_refused(folder):
    with pytest.raises(KoviltError, match='device nonsense'):
        VQAInferencer(folder, device='nonsense')
    if not torch.cuda.is_available():
        with pytest.raises(KoviltError, match='device cuda'):
            VQAInferencer(folder, device='cuda')
    with pytest.raises(KoviltError, match='batch_size=0'):
        VQAInferencer(folder, batch_size=0)
