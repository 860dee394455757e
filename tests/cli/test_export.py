"""An exported model answers in transformers without kovilt, and as a graph."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_checkpoint
from tiny_rooms import tiny_config

# Reads AI-Hub's files and the model folder, argv 1 and 2, with transformers alone; prints {question_id: answer}.
PLAIN = """
import json, sys
from pathlib import Path

sys.modules['kovilt'] = None                                            # importing it is an error
from PIL import Image
from transformers import AutoProcessor, ViltForQuestionAnswering

data, folder = Path(sys.argv[1]), sys.argv[2]
processor, model = AutoProcessor.from_pretrained(folder), ViltForQuestionAnswering.from_pretrained(folder).eval()
answers = {}
for file in data.glob('Validation/labels/*/*.json'):
    labels = json.loads(file.read_text(encoding='utf-8'))
    names = {row['image_id']: row['image'] for row in labels['images']}
    for row in labels['question']:
        (image,) = data.rglob(names[row['image_id']])
        inputs = processor(Image.open(image), row['question'], truncation=True, return_tensors='pt')
        answers[row['question_id']] = model.config.id2label[int(model(**inputs).logits.argmax())]
print(json.dumps(answers))
"""


def test_transformers_alone_gives_every_answer_of_a_trained_model(rooms, tmp_path, call):
    config, work = tiny_config(tmp_path / 'tiny.py', steps=3), tmp_path / 'work'
    # With so large initial weights, images and questions get different answers, which three steps would not teach.
    wide = 'model.encoder.init_std=0.4'
    assert call('train', config, '--work-dir', work, '--seed', 0, '--cfg-options', wide)[0] == 0
    out = work / 'test' / 'predictions.jsonl'
    out.parent.mkdir()
    (out.parent / 'report.html').write_text('of an earlier test')
    assert call('test', config, work / 'iter_3.pth', '--out', out)[0] == 0
    assert not (out.parent / 'report.html').exists()  # --no-report, by KOVILT_NO_REPORT
    assert call('export', work, tmp_path / 'model')[0] == 0
    done = subprocess.run(
        [sys.executable, '-c', PLAIN, rooms / 'vqa', tmp_path / 'model'], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    rows = [json.loads(line) for line in out.read_text(encoding='utf-8').splitlines()]
    assert {str(row['question_id']): row['answer'] for row in rows} == theirs
    assert len(set(theirs.values())) > 2
    metrics = json.loads((work / 'test' / 'metrics.json').read_text(encoding='utf-8'))['metrics']
    right = sum(theirs[str(row['question_id'])] == row['ground_truth'] for row in rows)
    assert 100 * right / len(theirs) == pytest.approx(metrics['accuracy'])


def test_a_graph_is_exported_with_its_comparison_and_answers_like_the_model(tmp_path, call):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'room.png')
    model, graph, question = tiny_checkpoint(tmp_path), tmp_path / 'graph', (tmp_path / 'room.png', '의자가 있어요 ?')
    code, out, _ = call('export', model, graph, '--format', 'pt2')
    assert code == 0
    assert re.search(r'difference to torch \S+e-\d+ on 8 batches; one pair takes [\d.]+ ms, in torch [\d.]+ ms', out)
    assert call('predict', graph, *question, '--trust')[:2] == call('predict', model, *question)[:2]
    code, out, error = call('predict', graph, *question)
    assert (code, out) == (2, '') and 'is a program' in error and error.count('\n') == 1
