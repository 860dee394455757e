"""HuggingFace's config.json and preprocessor_config.json for a kovilt model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel

from kovilt.errors import KoviltError
from kovilt.modules import PrefixViLT

ARCHITECTURES = {
    'ViLTForVQA': 'ViltForQuestionAnswering',
    'ViLTForMultipleChoice': 'ViltForImageAndTextRetrieval',  # whose head, too, is one score of the pooled state
    'ViLTForPreTraining': 'ViltForMaskedLM',
}


def vilt_config(model: BaseModel, kind: str, pad_token_id: int) -> dict[str, Any]:
    """The fields of ViltConfig, read off the model itself, whose class is `kind`, a key of `ARCHITECTURES`.

    A `PrefixViLT` gets a model type of its own, since HuggingFace's ViLT would compute something else.

    Raises:
        KoviltError: the answer head has another number of answers than `model.answers`, or two are equal.
    """
    encoder = model.encoder
    is_prefix = isinstance(encoder, PrefixViLT)
    config = {
        'architectures': [kind if is_prefix else ARCHITECTURES[kind]],
        'model_type': 'kovilt_prefix_vilt' if is_prefix else 'vilt',
        'vocab_size': encoder.vocab_size,
        'type_vocab_size': 2,
        'modality_type_vocab_size': 2,
        'max_position_embeddings': encoder.max_text_len,
        'hidden_size': encoder.hidden_size,
        'num_hidden_layers': len(encoder.blocks),
        'num_attention_heads': encoder.blocks[0].attn.num_heads,
        'intermediate_size': encoder.blocks[0].mlp.fc1.out_features,
        'hidden_act': encoder.activation,
        'hidden_dropout_prob': encoder.text.dropout.p,
        'attention_probs_dropout_prob': 0.0,
        'initializer_range': encoder.init_std,
        # HuggingFace has one value for all norms. We give the text norm's: its inputs are so small that it matters.
        'layer_norm_eps': encoder.text.norm.eps,
        'image_size': encoder.image_size,
        'patch_size': encoder.patch_size,
        'num_channels': 3,
        'qkv_bias': True,
        'max_image_length': -1,
        'pad_token_id': pad_token_id,
        'dtype': 'float32',
    }
    if hasattr(model, 'vqa_head'):
        names, answers = len(set(model.answers)), model.vqa_head.num_answers
        if names != answers:
            raise KoviltError(f'the answer head has {answers} answers, but {names} different names are known for them')
        config['id2label'] = {str(i): answer for i, answer in enumerate(model.answers)}
        config['label2id'] = {answer: i for i, answer in enumerate(model.answers)}
    return config


def image_processor_config(image_pipeline: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Settings of a ViltImageProcessor that resizes as `ResizeViLT` does; None if the pipeline does not resize."""
    resize = next((step for step in image_pipeline if str(step['type']).endswith('ResizeViLT')), None)
    if resize is None:
        return None
    return {
        'image_processor_type': 'ViltImageProcessor',
        'processor_class': 'ViltProcessor',
        'do_convert_rgb': True,  # grey, palette and transparent images, as LoadImage converts them
        'do_resize': True,
        'size': {'shortest_edge': resize['short']},
        'size_divisor': resize['divisor'],
        'resample': 3,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': [0.5] * 3,
        'image_std': [0.5] * 3,
        'do_pad': True,
    }
