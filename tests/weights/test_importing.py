"""Public weights give the scores of their own code, and are fitted to other sizes and tokens by stated rules."""

import json
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from public_models import (
    HF_WORDS,
    OTHER_TOKENS,
    SPECIAL_TOKENS,
    VILT,
    edited,
    original,
    randomised,
    saved,
    timm,
    tokenizer_of,
)
from safetensors.torch import load_file, save_file
from tiny_models import ANSWERS, WORDS, answer_scores, tiny_model, tiny_pairs, tiny_tokenizer, word_scores
from transformers import (
    AutoTokenizer,
    BertModel,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltForImagesAndTextClassification,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltImageProcessor,
    ViltModel,
    ViTModel,
)

from kovilt.apis import VQAInferencer
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import load_encoder
from kovilt.formats.huggingface import to_huggingface
from kovilt.formats.public_weights import WORD_EMBEDDINGS
from kovilt.weights import import_weights, load_model_folder
from kovilt.weights.folder import folder_as_checkpoint


@torch.no_grad()
def test_answer_scores_are_those_of_huggingface(vqa, imported):
    ours, report = imported(vqa.folder)
    batch, inputs = tiny_pairs()
    scores = vqa.model(**inputs).logits
    assert scores.std() > 0.1 and ours.answers == ANSWERS
    torch.testing.assert_close(answer_scores(ours, batch), scores, atol=1e-4, rtol=1e-4)
    assert report.encoder_coverage == 1 and 'new' not in report.details and 'dropped' not in report.details
    assert report.details['imported from'].startswith('vilt-vqa (HuggingFace ViLT, sha256 ')


@torch.no_grad()
@pytest.mark.parametrize('tied', [True, False])
def test_token_scores_are_those_of_huggingface(mlm, imported, tmp_path, tied):
    folder, model = mlm.folder, mlm.model
    if not tied:

        def untie(tensors):
            tensors['mlm_score.decoder.weight'] = torch.randn(25, 16)
            tensors['mlm_score.bias'] = tensors['mlm_score.decoder.bias'].clone()  # older files hold it twice

        folder = edited(mlm, tmp_path / 'untied', untie)
        model = ViltForMaskedLM.from_pretrained(folder).eval()
    ours, report = imported(folder)
    batch, inputs = tiny_pairs()
    mask = batch['text_mask']
    torch.testing.assert_close(word_scores(ours, batch)[mask], model(**inputs).logits[mask], atol=1e-4, rtol=1e-4)
    assert report.details['new'].endswith(': itm_head.fc.weight, itm_head.fc.bias')


def test_other_heads_are_dropped_and_the_encoder_is_the_same(imported, tmp_path):
    retrieval = randomised(ViltForImageAndTextRetrieval(VILT), seed=2)
    ours, report = imported(saved(retrieval, tmp_path / 'retrieval'))
    assert report.details['dropped'] == 'retrieval head (2: rank_output.bias, rank_output.weight)'
    reference = to_huggingface(ours.state_dict())
    assert all(torch.equal(reference[key], tensor) for key, tensor in retrieval.state_dict().items() if 'vilt' in key)

    config = ViltConfig(**VILT.to_dict() | dict(num_images=2, modality_type_vocab_size=3, id2label={0: 'no', 1: 'yes'}))
    nlvr2 = randomised(ViltForImagesAndTextClassification(config), seed=3)
    ours, report = imported(saved(nlvr2, tmp_path / 'nlvr2'))
    assert 'head for several images (NLVR2) (6: classifier.' in report.details['dropped']
    assert 'further images' in report.details['dropped'] and not hasattr(ours, 'vqa_head')
    modality = nlvr2.vilt.embeddings.token_type_embeddings.weight[:2]
    assert torch.equal(ours.encoder.modality_embed.weight, modality)

    bare = randomised(ViltModel(VILT), seed=4)
    ours, report = imported(saved(bare, tmp_path / 'bare'))
    assert report.encoder_coverage == 1 and torch.equal(ours.encoder.pooler.weight, bare.pooler.dense.weight)


@torch.no_grad()
def test_scores_of_the_original_layout_are_those_of_huggingface(vqa, mlm, imported, tmp_path):
    """The file is a Lightning checkpoint with settings and callbacks, whose classes are never imported."""
    trainer = types.ModuleType('pytorch_lightning.callbacks')
    trainer.ModelCheckpoint = type('ModelCheckpoint', (dict,), {'__module__': trainer.__name__})
    untied = ViltForMaskedLM(VILT)
    untied.mlm_score.decoder.weight = torch.nn.Parameter(torch.randn(25, 16))
    randomised(untied, seed=5)
    batch, inputs = tiny_pairs()
    tiny_tokenizer().save_pretrained(tmp_path / 'tokenizer')
    matching = {'itm_score.fc.weight': torch.randn(2, 16), 'itm_score.fc.bias': torch.randn(2)}
    extras = {'rank_output.weight': torch.randn(1, 16), 'text_embeddings.position_ids': torch.arange(12)[None]}
    sys.modules['pytorch_lightning'] = sys.modules[trainer.__name__] = trainer
    try:
        for name, model in (('mlm_itm', untied), ('vqa', vqa.model)):
            content = {
                'state_dict': original(model.state_dict()) | matching | extras,
                'epoch': 3,
                'hyper_parameters': {'config': {'num_heads': 2, 'num_layers': 2, 'hidden_size': 16, 'exp_name': name}},
                'callbacks': {trainer.ModelCheckpoint: {'monitor': 'val'}},
            }
            if name == 'vqa':
                del content['state_dict']['itm_score.fc.weight'], content['state_dict']['itm_score.fc.bias']
            torch.save(content, tmp_path / f'{name}.ckpt')
    finally:
        del sys.modules['pytorch_lightning'], sys.modules[trainer.__name__]

    own = dict(source_tokenizer=str(tmp_path / 'tokenizer'))
    ours, report = imported(tmp_path / 'mlm_itm.ckpt', **own)
    mask = batch['text_mask']
    torch.testing.assert_close(word_scores(ours, batch)[mask], untied(**inputs).logits[mask], atol=1e-4, rtol=1e-4)
    assert torch.equal(ours.itm_head.fc.weight, matching['itm_score.fc.weight'])
    assert report.encoder_coverage == 1 and 'new' not in report.details
    assert 'retrieval head (1: rank_output.weight)' in report.details['dropped']
    assert 'pytorch_lightning' not in sys.modules

    with pytest.raises(KoviltError, match='does not state its 5 answers; give them by --answers'):
        imported(tmp_path / 'vqa.ckpt', **own)
    (tmp_path / 'answers.json').write_text(json.dumps({answer: i for i, answer in enumerate(ANSWERS)}))
    ours, _ = imported(tmp_path / 'vqa.ckpt', answers=tmp_path / 'answers.json', **own)
    torch.testing.assert_close(answer_scores(ours, batch), vqa.model(**inputs).logits, atol=1e-4, rtol=1e-4)
    assert ours.answers == ANSWERS


def test_a_vit_becomes_the_start_of_an_encoder(vit, imported, korean, tmp_path):
    ours, report = imported(vit.folder, tokenizer=korean)
    assert 0.95 < report.encoder_coverage < 1 and ours.encoder.max_text_len == 40
    reference, tensors = to_huggingface(ours.state_dict()), load_file(vit.folder / 'model.safetensors')
    theirs = {key.replace('vit.', 'vilt.'): tensor for key, tensor in tensors.items()}
    assert {key for key in theirs if not torch.equal(reference.get(key, torch.empty(0)), theirs[key])} == {
        'classifier.weight',
        'classifier.bias',
    }
    assert report.details['dropped'] == 'ImageNet head (2: classifier.bias, classifier.weight)'

    save_file(timm(tensors), tmp_path / 'timm.safetensors')
    again, report = imported(tmp_path / 'timm.safetensors', tokenizer=korean, num_heads=2)
    again = to_huggingface(again.state_dict())
    assert all(torch.equal(again[key], tensor) for key, tensor in theirs.items() if 'classifier' not in key)
    assert report.details['imported from'].startswith('timm.safetensors (timm ViT')
    with pytest.raises(KoviltError, match='0 heads do not divide hidden_size 16; give --num-heads'):
        imported(tmp_path / 'timm.safetensors', tokenizer=korean)

    bare = randomised(ViTModel(vit.model.config), seed=7)
    bare.save_pretrained(tmp_path / 'bare')
    ours, report = imported(tmp_path / 'bare', tokenizer=korean)
    assert 'pooler of the image CLS' in report.details['dropped']
    assert not torch.equal(ours.encoder.pooler.weight, bare.pooler.dense.weight)


def test_positions_are_resized(vqa, vit, imported, korean):
    """Larger images get the positions that the source would interpolate; longer texts get new ones at the end."""
    same, _ = imported(vqa.folder)
    ours, report = imported(vqa.folder, image_size=48, max_text_len=20)
    torch.testing.assert_close(ours.encoder.image.positions(6, 6), same.encoder.image.positions(6, 6))
    old, new = same.encoder.text.pos_embed.weight, ours.encoder.text.pos_embed.weight
    assert torch.equal(new[:12], old) and 0.5 < new[12:].std() / old.std() < 2
    assert report.details['resized'] == (
        'encoder.text.pos_embed.weight: 12 to 20 positions; encoder.image.pos_embed: 17 to 37 positions'
    )
    shorter, _ = imported(vqa.folder, max_text_len=8)
    assert torch.equal(shorter.encoder.text.pos_embed.weight, old[:8])
    with pytest.raises(KoviltError, match='image_size 50 is not a multiple of patch_size 8'):
        imported(vqa.folder, image_size=50)


def test_images_are_resized_as_the_source_states(vqa, vit, korean, tmp_path):
    folder = edited(vqa, tmp_path / 'vilt', lambda tensors: None)
    (folder / 'preprocessor_config.json').write_text('{"size": {"shortest_edge": 48}, "image_mean": [0.5, 0.5, 0.5]}')
    import_weights(folder, tmp_path / 'model')
    resize, cut = load_model_folder(tmp_path / 'model').image_pipeline[1:]
    assert resize == dict(type='ResizeViLT', short=48, long=79, divisor=8) and cut['patch_size'] == 8
    (folder / 'preprocessor_config.json').write_text('{"size": 40}')  # the form of older files
    import_weights(folder, tmp_path / 'older')
    assert load_model_folder(tmp_path / 'older').image_pipeline[1]['short'] == 40
    (folder / 'preprocessor_config.json').write_text('{"image_mean": [0.485, 0.456, 0.406]}')
    with pytest.raises(KoviltError, match='image_mean is .0.485'):
        import_weights(folder, tmp_path / 'model2')


def test_another_tokenizer_keeps_the_encoder_and_shared_tokens(mlm, imported, tmp_path):
    """Tokens are found by their text: the tokenizer is of another size and order."""
    same, _ = imported(mlm.folder)
    other = tokenizer_of(OTHER_TOKENS, tmp_path / 'other')
    ours, report = imported(mlm.folder, tokenizer=other)
    here, there = dict(ours.named_parameters()), dict(same.named_parameters())
    tables = ['encoder.text.word_embed.weight', 'mlm_head.decoder.weight', 'mlm_head.decoder.bias']
    assert all(torch.equal(here[key], there[key]) for key in here if key not in tables and 'itm_head' not in key)
    before = [*SPECIAL_TOKENS, *WORDS]
    shared = [token for token in OTHER_TOKENS if token in before]
    fresh = [OTHER_TOKENS.index(token) for token in OTHER_TOKENS if token not in before]
    for key in tables:
        assert len(here[key]) == len(OTHER_TOKENS)
        kept = here[key][[OTHER_TOKENS.index(token) for token in shared]]
        assert torch.equal(kept, there[key][[before.index(token) for token in shared]])
    assert len(fresh) == 3 and 0.5 < here[WORD_EMBEDDINGS][fresh].std() / there[WORD_EMBEDDINGS].std() < 2
    assert report.encoder_coverage == 1
    assert '13 of 16 tokens kept, 0 from the BERT, 3 random' in report.details['rebuilt']
    reordered = tokenizer_of([*before[:5], *reversed(before[5:])], tmp_path / 'reordered')
    ours, report = imported(mlm.folder, tokenizer=reordered)
    assert torch.equal(ours.encoder.text.word_embed.weight[5:], there[WORD_EMBEDDINGS][5:].flip(0))
    _, report = imported(mlm.folder / 'model.safetensors', tokenizer=other, num_heads=2)  # without a tokenizer
    assert '0 of 16 tokens kept, 0 from the BERT, 16 random' in report.details['rebuilt']
    assert 'its tokenizer is not known, so no word embedding is kept' in report.details['notes']


def test_a_korean_bert_gives_the_tokens_that_the_source_lacks(mlm, vit, bert, imported, korean, tmp_path):
    same, _ = imported(mlm.folder)
    ours, report = imported(mlm.folder, bert=bert.folder)
    assert '13 of 16 tokens kept, 3 from the BERT, 0 random' in report.details['rebuilt']
    theirs = bert.model.bert.embeddings.word_embeddings.weight.detach()
    kept, fresh = [OTHER_TOKENS.index('책')], [OTHER_TOKENS.index(token) for token in ('화분', '##도', '사과')]
    here, there = ours.encoder.text.word_embed.weight.detach(), same.encoder.text.word_embed.weight.detach()
    assert torch.equal(here[kept], there[[5 + WORDS.index('책')]])
    centered = [here[fresh] - there.mean(0), theirs[fresh] - theirs.mean(0)]  # the same up to one factor
    torch.testing.assert_close(centered[0] / centered[0].norm(), centered[1] / centered[1].norm())

    ours, report = imported(vit.folder, bert=bert.folder)  # no word embeddings of its own
    torch.testing.assert_close(ours.encoder.text.word_embed.weight, theirs)
    torch.testing.assert_close(ours.mlm_head.decoder.bias, bert.model.cls.predictions.bias)
    assert '0 of 16 tokens kept, 16 from the BERT, 0 random' in report.details['rebuilt']

    bare = BertModel(bert.model.config)
    bare.save_pretrained(tmp_path / 'bare')
    tokenizer_of(OTHER_TOKENS, tmp_path / 'bare')
    ours, report = imported(vit.folder, bert=tmp_path / 'bare', tokenizer=korean)
    assert '0 of 25 tokens kept, 13 from the BERT, 12 random' in report.details['rebuilt']
    assert 'mlm_head.decoder.bias' in report.details['new']


def test_training_starts_from_an_imported_folder(mlm, imported, tmp_path):
    _, report = imported(mlm.folder)
    start = folder_as_checkpoint(tmp_path / 'model')
    loaded, whole = load_encoder(tiny_model(), start, 'model')
    assert loaded == whole
    card = (tmp_path / 'model/README.md').read_text(encoding='utf-8')
    assert 'HuggingFace ViLT, sha256' in card and str(mlm.folder.parent) not in card
    assert load_model_folder(tmp_path / 'model').info['training'] == report.details


def test_prefixes_half_precision_and_counters(vqa, imported, tmp_path):
    """Prefixes of wrappers are removed, float16 is read as float32 and noted, padding rows are cut."""
    reference, _ = imported(vqa.folder)

    def wrap(tensors):
        for number, key in enumerate(list(tensors)):
            tensors[('module.', 'module._orig_mod.')[number % 2] + key] = tensors.pop(key).half()
        tensors['module.vilt.embeddings.text_embeddings.position_ids'] = torch.arange(12)[None]

    ours, report = imported(edited(vqa, tmp_path / 'wrapped', wrap))
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, reference.state_dict()[key], atol=1e-3, rtol=1e-3)
        assert tensor.dtype == torch.float32
    assert report.details['notes'] == 'numbers of float16, read as float32'
    assert 'position numbers, no weight' in report.details['dropped']

    def pad(tensors):
        tensors[HF_WORDS] = torch.cat([tensors[HF_WORDS], torch.zeros(7, 16)])

    ours, report = imported(edited(vqa, tmp_path / 'padded', pad, vocab_size=32))
    assert torch.equal(ours.encoder.text.word_embed.weight, reference.encoder.text.word_embed.weight)
    assert report.details['resized'] == (
        'encoder.text.word_embed.weight: 25 of 25 tokens kept, 0 from the BERT, 0 random'
    )


@pytest.mark.parametrize('form', [list, 'kovilt', 'by class'])
def test_answers_come_from_a_file(vqa, imported, tmp_path, form):
    others = ['예', '아니', '빨강', '파랑', '둘']
    content = {'kovilt': dict(answers=others, counts=[1] * 5), 'by class': dict(enumerate(others))}.get(form, others)
    (tmp_path / 'answers.json').write_text(json.dumps(content), encoding='utf-8')
    assert imported(vqa.folder, answers=tmp_path / 'answers.json')[0].answers == others
    wrongs = (others[:4], 'json has 4 answers, the answer head 5'), (dict(a=[1]), 'neither a list'), (3, 'neither a')
    for wrong, message in wrongs:
        (tmp_path / 'answers.json').write_text(json.dumps(wrong), encoding='utf-8')
        with pytest.raises(KoviltError, match=message):
            imported(vqa.folder, answers=tmp_path / 'answers.json')
    with pytest.raises(KoviltError, match='none.json: no such file'):
        imported(vqa.folder, answers=tmp_path / 'none.json')


ENGLISH = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'what', 'color', 'is', 'the', 'sofa', '?', '##s']


def test_an_english_model_of_huggingface_answers_as_it_is(vqa, tmp_path):
    """The answers are those of transformers, with its own processor, and nothing is said of Hangul."""
    model = randomised(ViltForQuestionAnswering(ViltConfig(**VILT.to_dict() | dict(vocab_size=len(ENGLISH)))), seed=3)
    folder = saved(model, tmp_path / 'vilt-english')
    for file in folder.glob('tokenizer*'):
        file.unlink()
    tokenizer_of(ENGLISH, folder)
    size = dict(shortest_edge=VILT.image_size)
    processor = ViltImageProcessor(size=size, size_divisor=VILT.patch_size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(folder)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    questions = ['what color is the sofa ?', 'is the sofa what ?']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        inferencer = VQAInferencer(folder, device='cpu')
        ours = inferencer(image, questions)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for question, answer in zip(questions, ours, strict=True):
        inputs = tokenizer(question, return_tensors='pt') | processor(image, return_tensors='pt')
        with torch.no_grad():
            scores = model.eval()(**inputs).logits[0].softmax(dim=0)
        best = int(scores.argmax())
        assert answer['answer'] == model.config.id2label[best] and answer['score'] == pytest.approx(
            scores[best].item(), abs=1e-5
        )
        assert answer['unknown_token_share'] == 0


def test_a_model_of_huggingface_without_an_answer_head_answers_nothing(mlm):
    with pytest.raises(KoviltError, match='holds a ViLTForPreTraining, .* or ViLTForVQA or METERForVQA is needed'):
        VQAInferencer(mlm.folder)
