"""The two passes of pre-training."""

import pytest
import torch

from kovilt.registry import MODELS
from tests.models.test_steps import make_batch
from tests.support.tiny_models import WPA_HEAD, tiny_config, tiny_model


def test_the_total_is_l1_plus_l2_plus_half_l3():
    model = tiny_model('ViLTForPreTraining')
    losses = model(make_batch(8), mode='loss')
    total, logs = model.parse_losses(losses)
    distance = losses['wpa_matched_distance']
    torch.testing.assert_close(total, losses['mlm_loss'] + losses['itm_loss'] + 0.5 * distance)
    assert set(logs) == {'loss', *model.loss_names}


def test_every_parameter_learns():
    model = tiny_model('ViLTForPreTraining')
    model.parse_losses(model(make_batch(8), mode='loss'))[0].backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


def test_mlm_gets_the_true_image_and_matching_the_whole_caption(monkeypatch):
    model, batch = tiny_model('ViLTForPreTraining'), make_batch(8)
    passes = []
    encode = model.encoder.forward

    def watch(**arguments):
        passes.append(arguments)
        return encode(**arguments)

    monkeypatch.setattr(model.encoder, 'forward', watch)
    model(batch, mode='loss')
    masked, matching = passes
    assert torch.equal(masked['image_index'], batch['image_index'])
    assert not torch.equal(masked['input_ids'], batch['input_ids'])
    assert torch.equal(matching['input_ids'], batch['input_ids'])
    assert int((matching['image_index'] != batch['image_index']).sum()) == 4


def test_evaluation_is_deterministic_and_samples_the_same_masks():
    model, batch = tiny_model('ViLTForPreTraining'), make_batch(8)
    with torch.no_grad():
        assert model.val_step([batch]) == model.val_step([batch])


def test_alignment_takes_the_true_images_and_transports_every_token():
    model, batch = tiny_model('ViLTForPreTraining'), make_batch(6)
    plan, token_mask, patch_mask = model.align(batch)
    assert plan.shape == (6, 6, 20) and patch_mask.all()
    torch.testing.assert_close(plan.sum(dim=2), token_mask / token_mask.sum(dim=1, keepdim=True), rtol=0, atol=1e-6)


def test_filled_masks_are_those_of_the_loss():
    model, batch = tiny_model('ViLTForPreTraining').eval(), make_batch(8)
    masked, places, best, scores = model.fill_masks(batch)
    true_ids = batch['input_ids'][places[:, 0], places[:, 1]]
    with torch.no_grad():
        expected = model(batch, mode='predict')[0]['mlm_accuracy']
    assert len(places) >= 8 and (best[:, 0] == true_ids).float().mean().item() == pytest.approx(expected)
    assert (scores.diff(dim=1) <= 0).all() and ((scores >= 0) & (scores <= 1)).all()
    changed = (masked != batch['input_ids']).nonzero().tolist()
    assert changed and all(place in places.tolist() for place in changed)


@pytest.mark.parametrize('block', [None, 1])
def test_an_image_prefix_is_encoded_once_for_both_passes_and_every_parameter_learns(block, monkeypatch):
    config = tiny_config('ViLTForPreTraining', type='PrefixViLT', drop_rate=0.0)
    model = MODELS.build(dict(config, wpa_head=dict(WPA_HEAD, block=block)))
    calls, embed = [], model.encoder.embed_images
    monkeypatch.setattr(model.encoder, 'embed_images', lambda *images: calls.append(images) or embed(*images))
    model.parse_losses(model(make_batch(8), mode='loss'))[0].backward()
    assert len(calls) == 1
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    plan, token_mask, _ = model.align(make_batch(6))
    torch.testing.assert_close(plan.sum(dim=2), token_mask / token_mask.sum(dim=1, keepdim=True), rtol=0, atol=1e-6)


def test_an_inner_block_may_be_aligned():
    torch.manual_seed(0)
    config = tiny_config('ViLTForPreTraining')
    model = MODELS.build(dict(config, wpa_head=dict(WPA_HEAD, block=1))).eval()
    batch = make_batch(6)
    plan, token_mask, _ = model.align(batch)
    torch.testing.assert_close(plan.sum(dim=2), token_mask / token_mask.sum(dim=1, keepdim=True), rtol=0, atol=1e-6)
    model(batch, mode='loss')['wpa_loss'].backward()
    touched = [any(p.grad is not None and p.grad.any() for p in block.parameters()) for block in model.encoder.blocks]
    assert touched == [True, False]
    with pytest.raises(ValueError, match='wpa_head.block 2 is not between 1 and num_layers - 1'):
        MODELS.build(dict(config, wpa_head=dict(WPA_HEAD, block=2)))


@pytest.mark.parametrize('left_out', ['mlm_head', 'wpa_head'])
def test_an_objective_can_be_left_out(left_out):
    model = MODELS.build(dict(tiny_config('ViLTForPreTraining'), **{left_out: None}))
    losses = model(make_batch(8), mode='loss')
    assert losses.keys() == set(model.loss_names)
    assert not any(name.startswith(left_out[:3]) for name in losses)


def test_matching_may_take_every_nth_pair_alone():
    model = MODELS.build(dict(tiny_config('ViLTForPreTraining'), matching_every=4))
    calls = []
    sample = model.itm_head.sample_negatives
    model.itm_head.sample_negatives = lambda *pairs: calls.append(pairs) or sample(*pairs)
    batch = make_batch(8)
    model(batch, mode='loss')
    [(image_index, image_id, sample_seed)] = calls
    assert torch.equal(image_index, batch['image_index'][::4]) and torch.equal(sample_seed, batch['sample_seed'][::4])
    assert torch.equal(image_id, batch['image_id'])  # negatives still come from the whole batch
    with pytest.raises(ValueError, match='matching_every is 0; it must be at least 1'):
        MODELS.build(dict(tiny_config('ViLTForPreTraining'), matching_every=0))


def test_alignment_without_matching_is_refused():
    with pytest.raises(ValueError, match='wpa_head needs itm_head'):
        MODELS.build(dict(tiny_config('ViLTForPreTraining'), itm_head=None))


@pytest.mark.parametrize('encoder', ['ViLT', 'PrefixViLT'])
def test_bfloat16_autocast_trains_with_transport_in_float32(encoder):
    model = tiny_model('ViLTForPreTraining', type=encoder)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(make_batch(8), mode='loss')
    exact = model(make_batch(8), mode='loss')
    assert losses['wpa_loss'].dtype == torch.float32
    for name in ('mlm_loss', 'itm_loss', 'wpa_loss'):
        torch.testing.assert_close(losses[name].float(), exact[name], rtol=0.05, atol=0.05)
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
