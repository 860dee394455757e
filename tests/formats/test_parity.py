"""At base size kovilt computes the states and scores of HuggingFace's ViLT, an independent implementation."""

import pytest
import torch
from tiny_models import tiny_config
from transformers import ViltConfig, ViltForQuestionAnswering

from kovilt.formats.huggingface import from_huggingface, to_huggingface
from kovilt.registry import MODELS

EPS = 1e-6  # HuggingFace has one epsilon for all norms; ViT's, so the text norm here gets it too
PATCH, LONGEST = 32, 40
BASE = dict(
    hidden_size=768, num_layers=12, num_heads=12, vocab_size=200, max_text_len=LONGEST, patch_size=PATCH, image_size=384
)


def randomised(model):
    """Random weights, also where a model starts from zeros and ones, so that no two parameters can be confused."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


@pytest.fixture(scope='module')
def models():
    torch.manual_seed(0)
    config = tiny_config(**BASE)
    config['encoder']['init_std'] = 0.02
    ours = MODELS.build(config)
    ours.encoder.text.norm.eps = EPS
    theirs = ViltForQuestionAnswering(
        ViltConfig(vocab_size=BASE['vocab_size'], layer_norm_eps=EPS, num_labels=ours.vqa_head.num_answers)
    )
    return ours.eval(), theirs.eval()


def make_batch(grids, lengths, seed):
    """The same pairs of an image and a text as a batch of kovilt and as inputs of HuggingFace."""
    generator = torch.Generator().manual_seed(seed)
    grids, lengths = torch.tensor(grids), torch.tensor(lengths)
    height, width = (grids.max(dim=0).values * PATCH).tolist()
    pixels, mask = torch.zeros(len(grids), 3, height, width), torch.zeros(len(grids), height, width, dtype=torch.int64)
    patches = []
    for n, (high, wide) in enumerate((grids * PATCH).tolist()):
        image = torch.randint(0, 256, (3, high, wide), generator=generator, dtype=torch.uint8)
        pixels[n, :, :high, :wide], mask[n, :high, :wide] = image.float() / 127.5 - 1, 1
        cut = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)  # (3, rows, columns, p, p)
        patches.append(cut.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1))
    words = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.randint(5, BASE['vocab_size'], words.shape, generator=generator) * words
    ours = dict(
        patches=torch.cat(patches), grids=grids, image_index=torch.arange(len(grids)), input_ids=ids, text_mask=words
    )
    return ours, dict(input_ids=ids, attention_mask=words.long(), pixel_values=pixels, pixel_mask=mask)


BATCHES = [
    make_batch([(12, 16)], [40], seed=1),
    make_batch([(4, 6), (6, 3), (5, 5)], [1, 17, 40], seed=2),
    make_batch([(2, 3), (4, 2), (3, 3), (1, 5), (2, 2), (3, 5), (5, 3), (4, 4)], [7, 2, 12, 9, 1, 5, 3, 11], seed=3),
]


def compare(ours, theirs, batch, inputs):
    batch = ours.data_preprocessor(batch)
    encoder = ours.encoder
    states = encoder(
        images=encoder.embed_images(batch['patches'], batch['grids']),
        output='all',
        **{key: batch[key] for key in ('input_ids', 'text_mask', 'grids', 'image_index')},
    )
    pooled = encoder.pool(states)
    expected = theirs.vilt(**inputs)
    words, sequence = batch['text_mask'], expected.last_hidden_state
    longest = words.shape[1]
    patches, there = states.patches()
    image_cls = states.packed[states.packing.starts + states.packing.text_lengths]
    for one, other in (
        (states.text(longest)[words], sequence[:, :longest][words]),
        (image_cls, sequence[:, longest]),
        (patches[there], sequence[:, longest + 1 :][there]),
        (pooled, expected.pooler_output),
        (ours.vqa_head(pooled), theirs.classifier(expected.pooler_output)),
    ):
        assert other.std() > 0.05
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize('source', ['theirs', 'ours'])
def test_states_and_scores_are_those_of_huggingface(models, source, monkeypatch):
    """After conversion either way; images of all shapes, texts of 1 to 40 tokens, batches of 1 to 8."""
    ours, theirs = models
    # HuggingFace shuffles the patches of its largest images; in their own order they can be compared.
    monkeypatch.setattr(torch, 'multinomial', lambda weights, count, **_: torch.arange(count) % len(weights))
    if source == 'theirs':
        original = randomised(theirs).state_dict()
        ours.load_state_dict(from_huggingface(original, source='theirs'))
        again = to_huggingface(ours.state_dict())
    else:
        original = randomised(ours).state_dict()
        theirs.load_state_dict(to_huggingface(original))
        again = from_huggingface(theirs.state_dict(), source='theirs')
    assert again.keys() == original.keys()
    assert all(torch.equal(again[key], original[key]) for key in original)  # there and back, bit by bit
    for batch, inputs in BATCHES if source == 'theirs' else BATCHES[1:2]:
        compare(ours, theirs, batch, inputs)
