"""Predictions of the fine-tuned model."""

import torch

from kovilt.models.sizes import build_model
from tests.models.test_steps import make_batch
from tests.support.tiny_models import ANSWERS, tiny_config, tiny_model


@torch.no_grad()
def test_predictions_are_softmax_probabilities_best_first():
    model, batch = tiny_model(), make_batch(6)
    scores = model.vqa_head(model.pooled(model.data_preprocessor(batch))).softmax(dim=1)
    for row, prediction in zip(scores, model.val_step([batch]), strict=True):
        assert prediction['answer'] == ANSWERS[int(row.argmax())] == prediction['topk'][0]['answer']
        assert abs(prediction['score'] - float(row.max())) < 1e-6
        listed = [best['score'] for best in prediction['topk']]
        assert listed == sorted(listed, reverse=True)
        assert abs(sum(listed) - 1) < 1e-5  # there are five answers, all are listed


@torch.no_grad()
def test_a_temperature_divides_the_scores_which_predictions_may_keep():
    model, batch = tiny_model(), make_batch(6)
    plain = model.val_step([batch])
    assert not any('scores' in prediction for prediction in plain)
    model.temperature, model.keeps_scores = 2.5, True
    scores = model.scores(model.data_preprocessor(batch))
    for row, before, prediction in zip(scores, plain, model.val_step([batch]), strict=True):
        torch.testing.assert_close(torch.from_numpy(prediction['scores']), row)
        assert prediction['answer'] == before['answer'] and prediction['score'] < before['score']
        assert abs(prediction['score'] - float((row / 2.5).softmax(dim=0).max())) < 1e-6


@torch.no_grad()
def test_records_come_back_with_their_answers():
    records = [dict(row=i, question_id=str(i)) for i in range(6)]
    predictions = tiny_model().val_step([dict(make_batch(6), records=records)])
    assert [prediction['record'] for prediction in predictions] == records


def test_pixels_are_scaled_as_vilt_does():
    patches = make_batch(2)['patches']
    scaled = tiny_model().data_preprocessor(make_batch(2))['patches']
    torch.testing.assert_close(scaled, (patches.float() / 255 - 0.5) / 0.5)


def test_a_student_names_its_loss_on_every_batch_and_padding_changes_nothing():
    """Also where the teacher has no scores, and where all images are broken."""
    config = tiny_config()
    config['vqa_head'] |= dict(distillation_weight=0.5, distillation_temperature=2.0)
    config['encoder']['drop_rate'] = 0.0
    torch.manual_seed(0)
    model, batch = build_model(config, answers=ANSWERS), make_batch(4)
    teacher = torch.randn(4, len(ANSWERS)).log_softmax(dim=1)
    taught = model(batch | dict(teacher_log_probs=teacher), mode='loss')
    untaught = model(batch | dict(teacher_log_probs=torch.full_like(teacher, -torch.inf)), mode='loss')
    none = model(make_batch(0), mode='loss')
    assert taught.keys() == untaught.keys() == none.keys() == set(model.loss_names)
    assert taught['distillation_loss'] > 0 == untaught['distillation_loss'] == none['distillation_loss']
    padded = {
        name: torch.cat([batch[name], torch.zeros(4, 3, dtype=batch[name].dtype)], dim=1)
        for name in ('input_ids', 'text_mask')
    }
    again = model(batch | padded | dict(teacher_log_probs=teacher), mode='loss')
    for name, value in taught.items():
        torch.testing.assert_close(again[name], value)
