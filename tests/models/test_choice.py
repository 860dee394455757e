"""A question of multiple choice: scores do not depend on the other options, their order, padding or the batch."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from tiny_models import tiny_config, tiny_model

from kovilt.datasets import collate_pairs
from kovilt.errors import KoviltError
from kovilt.models import ViLTForMultipleChoice
from kovilt.models.answering import rank_answers, rank_options
from kovilt.models.sizes import build_model

ENCODERS = ['ViLT', 'PrefixViLT']
COUNTS = [3, 2, 4, 2]  # options of each question


def make_samples(counts: list[int] = COUNTS, *, images: int = 2, seed: int = 0) -> list[dict]:
    """Questions with options of different lengths; neighbours share an image."""
    generator = torch.Generator().manual_seed(seed)
    grids = [(rows, 4) for rows in range(2, 2 + images)]
    patches = [torch.randint(0, 256, (4 * rows, 192), generator=generator).to(torch.uint8) for rows, _ in grids]
    samples = []
    for number, count in enumerate(counts):
        lengths = torch.randint(4, 12, (count,), generator=generator).tolist()
        options = [torch.randint(5, 25, (length,), generator=generator).numpy() for length in lengths]
        image = number * images // len(counts)
        samples.append(
            dict(
                image=dict(patches=patches[image].numpy(), grid=grids[image]),
                image_id=image,
                sample_seed=number,
                label=number % count,
                options=[dict(input_ids=ids, word_ids=ids * 0, pad_id=0) for ids in options],
                record=dict(row=number, options=[f'{number}-{place}' for place in range(count)]),
            )
        )
    return samples


def pack(samples: list[dict]) -> dict:
    (batch,) = collate_pairs(samples)
    return batch


@torch.no_grad()
def scores_of(model: torch.nn.Module, samples: list[dict]) -> torch.Tensor:
    return model.scores(model.data_preprocessor(pack(samples)))


def choosing(encoder: str = 'ViLT') -> ViLTForMultipleChoice:
    return tiny_model('ViLTForMultipleChoice', type=encoder)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_without_training_each_option_is_scored_as_the_pre_trained_model_matches_that_pair_alone(encoder):
    pretrained = tiny_model('ViLTForPreTraining', type=encoder)
    model = build_model(tiny_config('ViLTForMultipleChoice', type=encoder)).eval()
    model.load_state_dict(model.from_matching(pretrained.state_dict()))
    samples = make_samples()
    found = scores_of(model, samples)
    alone = []
    for sample in samples:
        for option in sample['options']:
            pair = {key: value for key, value in sample.items() if key not in ('options', 'label')} | option
            batch = pretrained.data_preprocessor(pack([pair]))
            with torch.no_grad():
                images = pretrained.encoder.embed_images(batch['patches'], batch['grids'])
                matching = pretrained.itm_head(pretrained.encoder.pool(pretrained.encode(batch, images, 'cls')))
            alone.append(matching[0, 1] - matching[0, 0])
    assert found.std() > 0.1
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_permuted_options_have_permuted_scores_and_the_same_answer(encoder):
    model, (sample,) = choosing(encoder), make_samples([4], images=1)
    order = [2, 0, 3, 1]
    permuted = sample | dict(
        options=[sample['options'][place] for place in order],
        record=dict(row=0, options=[sample['record']['options'][place] for place in order]),
    )
    torch.testing.assert_close(scores_of(model, [permuted]), scores_of(model, [sample])[order], atol=1e-5, rtol=1e-5)
    first, second = (model.val_step([pack([one])])[0] for one in (sample, permuted))
    probabilities = [{guess['answer']: guess['score'] for guess in one['topk']} for one in (first, second)]
    assert first['answer'] == second['answer'] and probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)
    assert order[second['choice']] == first['choice']


def test_a_temperature_divides_the_scores_which_predictions_may_keep():
    model, samples = choosing('ViLT'), make_samples()
    model.temperature, model.keeps_scores = 2.5, True
    with torch.no_grad():
        found = model.val_step([pack(samples)])
    kept = [torch.from_numpy(one['scores']) for one in found]
    torch.testing.assert_close(torch.cat(kept), scores_of(model, samples))
    for one, own, sample in zip(found, kept, samples, strict=True):
        assert len(own) == len(sample['options'])
        assert one['score'] == pytest.approx(float((own / 2.5).softmax(dim=0).max()), abs=1e-6)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_padding_other_questions_and_a_repeated_image_change_nothing(encoder):
    model, samples = choosing(encoder), make_samples()
    together = scores_of(model, samples)
    alone = torch.cat([scores_of(model, [sample]) for sample in samples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    own_images = [sample | dict(image_id=number) for number, sample in enumerate(samples)]
    batch, repeated = pack(samples), pack(own_images)
    assert (len(batch['grids']), len(repeated['grids'])) == (2, 4)
    torch.testing.assert_close(scores_of(model, own_images), together, atol=1e-5, rtol=1e-5)
    wider = torch.nn.functional.pad(batch['input_ids'], (0, 3), value=9)
    mask = torch.nn.functional.pad(batch['text_mask'], (0, 3))
    with torch.no_grad():
        padded = model.scores(model.data_preprocessor({**batch, 'input_ids': wider, 'text_mask': mask}))
    torch.testing.assert_close(padded, together, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_many_options_are_encoded_in_parts_and_the_images_once(encoder, monkeypatch):
    model, samples = choosing(encoder), make_samples()
    whole, embedded = scores_of(model, samples), []
    original = model.encoder.embed_images
    monkeypatch.setattr(model.encoder, 'embed_images', lambda *images: embedded.append(1) or original(*images))
    model.pairs_at_once = 3
    torch.testing.assert_close(scores_of(model, samples), whole, atol=1e-5, rtol=1e-5)
    assert len(embedded) == 1


def test_micro_batches_of_other_numbers_of_options_make_the_step_of_the_whole_batch():
    models = [choosing(), choosing()]
    samples = make_samples([2, 5, 3, 2, 4, 2], images=3)
    logs = []
    for model, parts in zip(models, (1, 3), strict=True):
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        logs.append(model.train_step(collate_pairs(samples, micro_batches=parts), wrapper))
    assert logs[0].keys() == {'loss', 'choice_loss', 'choice_accuracy'}
    for name, value in logs[0].items():
        torch.testing.assert_close(value, logs[1][name])
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_batch_whose_images_are_all_broken_costs_nothing():
    model = choosing()
    values = model(pack([]), mode='loss')
    assert values.keys() == set(model.loss_names) and all(value == 0 for value in values.values())
    assert model.val_step([pack([])]) == []


def test_a_model_without_a_matching_head_is_refused():
    state = {name: value for name, value in tiny_model('ViLTForPreTraining').state_dict().items() if 'itm' not in name}
    with pytest.raises(KoviltError, match='pre-trained without image-text matching'):
        ViLTForMultipleChoice.from_matching(state)


def test_ranked_options_are_probabilities_best_first_and_equal_ones_in_their_order():
    scores = torch.tensor([0.0, 2.0, 1.0, 3.0, 3.0])
    first, second = rank_options(scores, [['가', '나', '다'], ['라', '마']], topk=2)
    assert (first['answer'], first['choice'], second['answer'], second['choice']) == ('나', 1, '라', 0)
    assert [one['answer'] for one in first['topk']] == ['나', '다'] and second['score'] == 0.5
    assert first['score'] == pytest.approx(float(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1]))


def test_a_model_with_answers_of_its_own_chooses_among_those_and_gives_no_others():
    scores = torch.tensor([[5.0, 1.0, 2.0], [0.0, 9.0, 1.0]])
    choices = [['나', '다'], ['다', '라', '가']]
    first, second = rank_answers(scores, ['가', '나', '다'], 5, choices)
    assert (first['answer'], first['choice'], second['answer'], second['choice']) == ('다', 1, '다', 0)
    assert second['topk'][-1] == dict(answer='라', score=0.0) and first['score'] == pytest.approx(0.7311, abs=1e-4)
    (unknown,) = rank_answers(scores[:1], ['가', '나', '다'], 5, [['라', '마']])
    assert (unknown['answer'], unknown['score']) == ('라', 0.5)
