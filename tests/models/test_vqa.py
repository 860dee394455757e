"""Predictions of the fine-tuned model."""

import torch

from tests.models.test_steps import make_batch
from tests.support.tiny_models import ANSWERS, tiny_model


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
def test_records_come_back_with_their_answers():
    records = [dict(row=i, question_id=str(i)) for i in range(6)]
    predictions = tiny_model().val_step([dict(make_batch(6), records=records)])
    assert [prediction['record'] for prediction in predictions] == records


def test_pixels_are_scaled_as_vilt_does():
    patches = make_batch(2)['patches']
    scaled = tiny_model().data_preprocessor(make_batch(2))['patches']
    torch.testing.assert_close(scaled, (patches.float() / 255 - 0.5) / 0.5)
