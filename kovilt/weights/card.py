"""The model card, README.md of a model folder: what the model is, how it was trained and how to use it."""

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

{sizes}

Images: {images}; then scaled to -1..1.
Texts: `{normalizer}`, then the tokenizer of this folder.

## Training
{training}

## Use
```python
{use}
```
{elsewhere}
"""
_ANSWER_QUESTIONS = """\
from kovilt.apis import VQAInferencer

print(VQAInferencer({arguments})('image.jpg', '소파는 무슨 색이에요?'))"""
_LOAD = """\
from kovilt.weights import load_model_folder

model = load_model_folder({name!r}).model"""
_TRANSFORMERS = """\
HuggingFace transformers loads the same folder:
```python
from PIL import Image
from transformers import AutoProcessor, ViltForQuestionAnswering

processor, model = AutoProcessor.from_pretrained({name!r}), ViltForQuestionAnswering.from_pretrained({name!r})
inputs = processor(Image.open('image.jpg'), '소파는 무슨 색이에요?', truncation=True, return_tensors='pt')
print(model.config.id2label[int(model(**inputs).logits.argmax())])
```"""
_GRAPH = """\
`{file}` holds the model as a graph. Before it was written, its scores were compared with the model's on {inputs}
batches: they differ by at most {difference:.1e}.{int8}

| input | type | shape | |
|---|---|---|---|
| `input_ids` | int64 | (batch, text) | tokens, [CLS] and [SEP] included, then padding |
| `text_mask` | bool | (batch, text) | true = a real token, false = padding |
| `patches` | uint8 | (batch, patches, {pixels}) | row by row; in each patch the three channels one after the other |
| `grid_index` | int64 | (batch,) | index of the image's (rows, columns) in `graph.grids` of `kovilt.json` |

It returns `scores`, float32 (batch, {answers}); `id2label` of `config.json` names the answers."""
_INT8 = """
The weights are int8, and the inputs of each linear layer are quantised to 8 bits when it runs, so some answers differ
from the model's. Use it on processors with int8 dot products (on x86: VNNI); on others, sums may saturate."""


def model_card(name: str, config: Mapping[str, Any], info: Mapping[str, Any], *, num_parameters: int) -> str:
    """The card in Markdown, from the config.json and kovilt.json of the model folder `name`."""
    answers = len(config.get('id2label', ()))
    sizes = {
        'parameters': f'{num_parameters:,}',
        'hidden size, layers, heads': ', '.join(
            str(config[key]) for key in ('hidden_size', 'num_hidden_layers', 'num_attention_heads')
        ),
        'patch size': f'{config["patch_size"]} pixels',
        'vocabulary': f'{config["vocab_size"]:,} tokens',
        'longest text': f'{info["max_text_len"]} tokens',
    }
    if answers:
        sizes['answers'] = f'{answers:,}'
    return _CARD.format(
        name=name,
        tag='visual-question-answering' if answers else 'fill-mask',
        kind=info['model']['type'],
        purpose='answers Korean questions about images' if answers else 'pre-trained on captioned images',
        version=info['kovilt_version'],
        sizes=_table(sizes),
        images=', '.join(map(_transform, info['image_pipeline'])),
        normalizer=info['normalizer'],
        training=_table(info['training']) if info['training'] else 'Not recorded.',
        use=_use(name, config, info),
        elsewhere=_elsewhere(name, config, info),
    )


def _use(name: str, config: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    if 'id2label' not in config:
        return _LOAD.format(name=name)
    is_program = info.get('graph', {}).get('format') == 'pt2'
    return _ANSWER_QUESTIONS.format(arguments=f'{name!r}, trust=True' if is_program else repr(name))


def _elsewhere(name: str, config: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """How to use the folder without kovilt."""
    if 'graph' in info:
        graph = info['graph']
        return _GRAPH.format(
            file=f'model.{graph["format"]}',
            inputs=graph['inputs'],
            difference=graph['largest_difference'],
            int8=_INT8 if graph.get('precision') == 'int8' else '',
            pixels=3 * config['patch_size'] ** 2,
            answers=len(config['id2label']),
        )
    if config['model_type'] != 'vilt':
        return (
            "Its patches do not attend to tokens, as they do in HuggingFace's ViLT, so transformers refuses the folder."
        )
    if 'id2label' in config:
        return _TRANSFORMERS.format(name=name)
    return f'HuggingFace transformers loads it as `{config["architectures"][0]}`, without the matching head.'


def _table(rows: Mapping[str, Any]) -> str:
    return '\n'.join(['| | |', '|---|---|', *(f'| {key} | {value} |' for key, value in rows.items())])


def _transform(config: Mapping[str, Any]) -> str:
    arguments = ', '.join(f'{key}={value!r}' for key, value in config.items() if key != 'type')
    return f'{config["type"]}({arguments})'
