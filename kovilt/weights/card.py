"""The model card: what a model is, how it was trained, how it is used, for whoever finds its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """\
---
language: ko
library_name: kovilt
pipeline_tag: {tag}
---
# {name}

Ko-ViLT ({kind}), {purpose}. Written by kovilt {version}.

{shape}

Pictures: {pictures}; then scaled to -1..1.
Texts: `{normalizer}`, then the tokenizer of this folder.

## Training
{training}

## Use
```python
{use}
```
{elsewhere}
"""
_ASK = """\
from kovilt.apis import VQAInferencer

print(VQAInferencer({name!r})('picture.jpg', '소파는 무슨 색이에요?'))"""
_ELSEWHERE = """\
HuggingFace transformers opens the same folder:
```python
from PIL import Image
from transformers import AutoProcessor, ViltForQuestionAnswering

processor, model = AutoProcessor.from_pretrained({name!r}), ViltForQuestionAnswering.from_pretrained({name!r})
inputs = processor(Image.open('picture.jpg'), '소파는 무슨 색이에요?', truncation=True, return_tensors='pt')
print(model.config.id2label[int(model(**inputs).logits.argmax())])
```"""
_OPEN = """\
from kovilt.weights import load_model_folder

model = load_model_folder({name!r}).model"""


def model_card(name: str, config: Mapping[str, Any], info: Mapping[str, Any], *, parameters: int) -> str:
    """Markdown of the card, from HuggingFace's config.json and kovilt.json of the folder `name`."""
    answers = len(config.get('id2label', ()))
    shape = {
        'parameters': f'{parameters:,}',
        'width, layers, heads': ', '.join(
            str(config[key]) for key in ('hidden_size', 'num_hidden_layers', 'num_attention_heads')),
        'patch': f'{config["patch_size"]} pixels',
        'vocabulary': f'{config["vocab_size"]:,} tokens',
        'longest text': f'{info["max_text_len"]} tokens',
    }
    if answers:
        shape['answers'] = f'{answers:,}'
    return _CARD.format(
        name=name,
        tag='visual-question-answering' if answers else 'fill-mask',
        kind=info['model']['type'],
        purpose='answers Korean questions about pictures' if answers else 'pre-trained on captioned pictures',
        version=info['kovilt_version'],
        shape=_table(shape),
        pictures=', '.join(map(_step, info['image_pipeline'])),
        normalizer=info['normalizer'],
        training=_table(info['training']) if info['training'] else 'Not recorded.',
        use=(_ASK if answers else _OPEN).format(name=name),
        elsewhere=(
            _ELSEWHERE.format(name=name)
            if answers
            else f'HuggingFace transformers opens it as `{config["architectures"][0]}`, without the matching head.'
        ),
    )


def _table(rows: Mapping[str, Any]) -> str:
    return '\n'.join(['| | |', '|---|---|', *(f'| {key} | {value} |' for key, value in rows.items())])


def _step(step: Mapping[str, Any]) -> str:
    arguments = ', '.join(f'{key}={value!r}' for key, value in step.items() if key != 'type')
    return f'{step["type"]}({arguments})'
