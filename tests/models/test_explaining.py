"""Relevance is that of an independent implementation, the score that of the fast model, and nothing stays behind."""

import pytest
import torch
from tiny_models import ANSWERS, answer_scores, tiny_model, tiny_pairs
from torch import nn
from transformers import ViltForQuestionAnswering

from kovilt.errors import KoviltError
from kovilt.formats.huggingface import to_huggingface
from kovilt.models.explaining import explain_pair
from kovilt.modules.relevance import ObservedAttention, attention_weights
from kovilt.weights.graph import GraphVQA, PaddedVQA
from tests.models.test_meter import SWIN, make_batch, tiny_meter
from tests.support.public_models import VILT


def pair_of(batch, number):
    """One pair of a batch, as an inferencer makes it, without padding."""
    image, length = int(batch['image_index'][number]), int(batch['text_mask'][number].sum())
    patches = batch['patches'].split(batch['grids'].prod(dim=1).tolist())
    ids = batch['input_ids'][number : number + 1, :length]
    place = torch.arange(length)
    return dict(
        patches=patches[image],
        grids=batch['grids'][image : image + 1],
        image_index=torch.tensor([0]),
        input_ids=ids,
        text_mask=torch.ones_like(ids, dtype=torch.bool),
        word_ids=torch.where((place > 0) & (place < length - 1), place - 1, -1)[None],
    )


ENCODERS = {
    'ViLT': lambda: (tiny_model(), tiny_pairs()[0]),
    'PrefixViLT': lambda: (tiny_model(type='PrefixViLT'), tiny_pairs()[0]),
    'checkpointing': lambda: (tiny_model(with_cp=True), tiny_pairs()[0]),
    'METER': lambda: (tiny_meter(), make_batch()),
    'METER of the mean': lambda: (tiny_meter(image_pooling='mean'), make_batch()),
}


@pytest.mark.parametrize('name', ENCODERS)
def test_scores_are_those_of_the_fast_model_in_a_padded_batch(name):
    model, batch = ENCODERS[name]()
    expected = answer_scores(model, batch)
    assert expected.std() > 0.05
    for number in range(len(expected)):
        found = explain_pair(model, pair_of(batch, number))
        torch.testing.assert_close(found.scores, expected[number], atol=1e-5, rtol=1e-5)
        assert found.label == int(expected[number].argmax())
        for values in (found.tokens, found.patches, found.attention):
            assert (values >= 0).all() and values.sum() > 0 and not values.requires_grad
        assert found.tokens.shape == (int(batch['text_mask'][number].sum()),)


def relevance_by_huggingface(theirs, inputs, number, label):
    """The relevance of the text [CLS], by the full matrices of the paper, from transformers' own attentions."""
    outputs = theirs(**inputs, output_attentions=True)
    gradients = torch.autograd.grad(outputs.logits.softmax(1)[number, label].logit(), outputs.attentions)
    relevance = torch.eye(outputs.attentions[0].shape[-1])
    for attention, gradient in zip(outputs.attentions, gradients, strict=True):
        relevance = relevance + (gradient * attention)[number].clamp(min=0).mean(0) @ relevance
    relevance[0, 0] -= 1
    return relevance[0].detach(), outputs.attentions[-1][number, :, 0].mean(0).detach()


def test_relevance_is_that_of_huggingface_with_the_same_weights(monkeypatch):
    """Theirs of a padded batch of two pairs, ours of each alone, for every answer."""
    # HuggingFace shuffles the patches of its largest images; in their own order they can be compared.
    monkeypatch.setattr(torch, 'multinomial', lambda weights, count, **_: torch.arange(count) % len(weights))
    model, (batch, inputs) = tiny_model(), tiny_pairs()
    model.encoder.text.norm.eps = VILT.layer_norm_eps
    theirs = ViltForQuestionAnswering(VILT).eval()
    theirs.load_state_dict(to_huggingface(model.state_dict()))
    width = batch['input_ids'].shape[1]
    for number, label in ((0, 0), (0, 3), (1, 1), (1, 4)):
        expected, attention = relevance_by_huggingface(theirs, inputs, number, label)
        found = explain_pair(model, pair_of(batch, number), label)
        length, count = len(found.tokens), found.patches.numel()
        assert found.tokens.std() > 1e-4 and found.patches.std() > 1e-5
        torch.testing.assert_close(found.tokens, expected[:length], atol=1e-6, rtol=1e-3)
        assert not expected[length:width].any()  # of padding
        patches = expected[width + 1 : width + 1 + count]
        torch.testing.assert_close(found.patches.flatten(), patches, atol=1e-6, rtol=1e-3)
        cls = attention[width + 1 : width + 1 + count]
        torch.testing.assert_close(found.attention.flatten(), cls, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize('kind', ['ViLT', 'PrefixViLT'])
def test_relevance_is_that_of_the_exported_graph(kind):
    """Whose forward pass and mask are written anew, and whose last block has one query."""
    model, pair = tiny_model(type=kind), pair_of(tiny_pairs()[0], 0)
    graph = GraphVQA(lambda inputs: inputs, [(3, 5)], ANSWERS)
    with ObservedAttention() as observed:
        scores = PaddedVQA(model, [(3, 5)])(**graph.pad(pair))
    first, last = attention_weights(scores[0].softmax(0)[2].logit(), observed.probabilities)
    row = last[0] + last[0] @ first + first[0]  # (I + last) (I + first) - I, of the text [CLS]
    found = explain_pair(model, pair, 2)
    torch.testing.assert_close(torch.cat([found.tokens, found.patches.flatten()]), row[torch.arange(21) != 5])


def plant(model, patch_value):
    """Let the score of answer 1 be what the text [CLS] gets of the patches' brightness, through uniform attention."""
    encoder = model.encoder
    for parameter in model.parameters():
        parameter.data.zero_()
    for norm in [encoder.text.norm, encoder.norm, *(n for block in encoder.blocks for n in (block.norm1, block.norm2))]:
        norm.weight.data.fill_(1)
    encoder.text.word_embed.weight.data[:, 2], encoder.text.word_embed.weight.data[:, 3] = 1, -1
    encoder.image.proj.bias.data[2:4] = encoder.image.cls_token.data[0, 2:4] = torch.tensor([1.0, -1.0])
    encoder.image.proj.weight.data[0] = 1 / 192  # dark patches are -1
    encoder.image.proj.bias.data[0], encoder.image.proj.bias.data[1] = 1, 0
    for block in encoder.blocks:
        value = block.attn.qkv.weight.data[32:48]
        value[0, 0] = block.attn.proj.weight.data[0, 0] = 1
    encoder.pooler.weight.data[0, 0] = 1
    model.vqa_head = nn.Linear(16, 5)
    model.vqa_head.weight.data.zero_()
    model.vqa_head.bias.data.zero_()
    model.vqa_head.weight.data[1, 0] = patch_value
    return model


@pytest.mark.parametrize('kind', ['ViLT', 'PrefixViLT'])
@pytest.mark.parametrize('bright', [0, 7, 14])
def test_the_patch_on_which_the_answer_depends_is_the_most_relevant(kind, bright):
    model, batch = plant(tiny_model(type=kind), 5.0), pair_of(tiny_pairs()[0], 0)
    batch['patches'] = torch.zeros_like(batch['patches'])
    dark = explain_pair(model, batch, 1)
    batch['patches'][bright] = 255
    found = explain_pair(model, batch)
    assert found.label == 1 and int(found.patches.argmax()) == bright
    assert found.scores[1] > dark.scores[1] + 0.1
    others = found.patches.flatten().clone()
    others[bright] = 0
    assert others.max() < found.patches.max() / 10
    assert found.attention.std() < 1e-4  # which attention does not show
    against = explain_pair(plant(tiny_model(type=kind), -5.0), batch, 1)
    assert against.patches.flatten()[bright] < found.patches.max() / 10  # it speaks against the answer


@pytest.mark.parametrize('stream', ['text', 'image'])
def test_a_stream_of_meter_that_gets_nothing_from_the_other_gives_it_no_relevance(stream):
    """The answer is made of the pooled state of one stream, whose cross-attention brings zeros."""
    model, pair = tiny_meter(), pair_of(make_batch(), 0)
    unused = slice(16, 32) if stream == 'text' else slice(0, 16)
    model.vqa_head.fc1.weight.data[:, unused] = 0
    for block in getattr(model.encoder.cross_modal, f'{stream}_blocks'):
        block.cross.kv.weight.data[16:] = 0  # of the values
        block.cross.kv.bias.data[16:] = 0
    found = explain_pair(model, pair, 1)
    own, other = (found.tokens, found.patches) if stream == 'text' else (found.patches, found.tokens)
    assert own.std() > 1e-4 and not other.any()


@pytest.mark.parametrize('name', ['ViLT', 'checkpointing', 'METER'])
@pytest.mark.parametrize('training', [False, True])
def test_it_leaves_no_trace(name, training):
    model, batch = ENCODERS[name]()
    pair = pair_of(batch, 0)
    model.train(training)
    model.vqa_head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [getattr(module, 'with_cp', None) for module in model.modules()]
    with torch.no_grad():
        found = explain_pair(model, pair, 2)
        assert not torch.is_grad_enabled()
    again = explain_pair(model, pair, 2)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True) if isinstance(a, torch.Tensor))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert [getattr(module, 'with_cp', None) for module in model.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.requires_grad_(False)
    frozen = explain_pair(model, pair, 2)
    torch.testing.assert_close(frozen.patches, found.patches)


def test_the_plan_holds_the_mass_of_each_token():
    model, batch = tiny_model(), pair_of(tiny_pairs()[0], 0)
    plan = explain_pair(model, batch).plan
    assert plan.shape == (5, 3, 5) and not plan[[0, -1]].any()
    torch.testing.assert_close(plan[1:-1].sum((1, 2)), torch.full((3,), 1 / 3))
    assert plan[1:-1].std() > 1e-3


def test_what_has_no_rule_is_refused_in_one_line():
    batch = pair_of(make_batch(), 0)
    with pytest.raises(KoviltError, match='no rule of relevance is known for METER with a SwinTransformer; ViLT, '):
        explain_pair(tiny_meter(image_encoder=SWIN, image_pooling='mean'), batch)
    model = tiny_model()
    model.encoder = nn.Identity()
    with pytest.raises(KoviltError, match='known for Identity; ViLT'):
        explain_pair(model, pair_of(tiny_pairs()[0], 0))
    blind = pair_of(tiny_pairs()[0], 0) | dict(patches=torch.zeros(0, 192), grids=torch.tensor([[0, 0]]))
    with pytest.raises(KoviltError, match='the model reads no image'):
        explain_pair(tiny_model(), blind)
