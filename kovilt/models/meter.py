"""METER, the two-stream baseline, for pre-training and for answering (Dou et al., CVPR 2022, arXiv 2111.02387)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.pretraining import PreTrainingModel
from kovilt.models.vqa import AnsweringModel
from kovilt.modules.attention import fast_attention
from kovilt.modules.meter import CrossModal
from kovilt.modules.packing import Output, to_device
from kovilt.registry import MODELS

_UNUSED_POSITIONS = {'bert': 0, 'roberta': 2}  # RoBERTa counts positions from its padding id 1 on


@MODELS.register_module()
class TextEncoder(BaseModule):
    """A BERT or RoBERTa of transformers, without its pooler.

    Args:
        vocab_size: number of tokens, given by `METER`.
        max_text_len: longest text in tokens, given by `METER`.
        model_type: which of the two; Korean models of both kinds exist.
        hidden_size: width.
        num_layers: number of blocks.
        num_heads: attention heads.
        drop_rate: dropout.
        pretrained: folder or hub name of public weights of these sizes, read when training begins (a checkpoint has its
            own); None = random weights.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_text_len: int,
        model_type: Literal['bert', 'roberta'] = 'bert',
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        drop_rate: float = 0.1,
        pretrained: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        from transformers import AutoConfig, AutoModel

        if model_type not in _UNUSED_POSITIONS:
            raise ValueError(f'model_type {model_type!r} is neither bert nor roberta')
        self.embed_dims, self.max_text_len, self.pretrained = hidden_size, max_text_len, pretrained
        roberta = dict(type_vocab_size=1, layer_norm_eps=1e-5) if model_type == 'roberta' else {}
        config = AutoConfig.for_model(
            model_type,
            vocab_size=vocab_size,
            max_position_embeddings=max_text_len + _UNUSED_POSITIONS[model_type],
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * hidden_size,
            hidden_dropout_prob=drop_rate,
            attention_probs_dropout_prob=drop_rate,
            **roberta,
        )
        self.body = AutoModel.from_config(config, add_pooling_layer=False, attn_implementation='sdpa')

    def init_weights(self) -> None:
        """Take the weights of `pretrained`; the runner calls this before training, and before a checkpoint is loaded.

        Raises:
            KoviltError: nothing there, another kind of model, other sizes.
        """
        if self.pretrained is None:
            return
        theirs = _read_text_model(self.pretrained)
        ours, kind = self.body.state_dict(), self.body.config.model_type
        if theirs.config.model_type != kind:
            raise KoviltError(
                f'text encoder {self.pretrained}: a {theirs.config.model_type}, but text_encoder.model_type is {kind}'
            )
        for name, value in theirs.state_dict().items():
            if name not in ours or ours[name].shape != value.shape:
                here = tuple(ours[name].shape) if name in ours else 'nowhere'
                raise KoviltError(
                    f'text encoder {self.pretrained}: {name} is {tuple(value.shape)} there and {here} here; give '
                    'text_encoder its sizes, max_text_len its positions and TokenizeKorean its tokenizer'
                )
        self.body.load_state_dict(theirs.state_dict())

    def forward(self, input_ids: Tensor, text_mask: Tensor) -> Tensor:
        """input_ids int64 and text_mask bool (B, L), on the device; returns (B, L, embed_dims).

        Raises:
            ValueError: the texts are longer than max_text_len.
        """
        if (longest := input_ids.shape[1]) > self.max_text_len:
            raise ValueError(f'a text of {longest} tokens is longer than max_text_len {self.max_text_len}')
        mask = text_mask[:, None, None, :]  # of four axes: transformers takes it as it is and asks no device
        return self.body(input_ids=input_ids, attention_mask=mask).last_hidden_state


def _read_text_model(name: str) -> nn.Module:
    from transformers import AutoModel

    path = Path(name).expanduser()
    try:
        return AutoModel.from_pretrained(str(path) if path.exists() else name, add_pooling_layer=False)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise KoviltError(
            f'text encoder {name}: neither a folder of transformers nor to be had from the hub ({reason}); give the '
            'folder of a BERT or RoBERTa, or pretrained=None for random weights'
        ) from error


@MODELS.register_module()
class METER(BaseModule):
    """An image encoder, a text encoder, and co-attention between them.

    As published: CLIP's ViT-B/16 without its last block, RoBERTa, 6 layers of co-attention a side; 327 M parameters
    with VQAv2's answers. At 576 pixels a side 57 % of the work is in the image encoder and 41 % in the co-attention.

    Shapes: B pairs, I images, S image_size, L text length, N states of an image, D hidden size.

    Args:
        image_encoder: config of a backbone of mmpretrain, which gets `img_size`; its last output is (I, N, D), as of
            a VisionTransformer with out_type='raw', or a map (I, width, rows, columns), as of a SwinTransformer.
        text_encoder: config of `TextEncoder`, which gets `vocab_size` and `max_text_len`.
        image_size: side of the square images, in pixels.
        vocab_size: number of tokens.
        max_text_len: longest text in tokens, as many as the text encoder has positions.
        hidden_size, num_layers, num_heads, mlp_ratio, drop_rate, image_pooling, init_std: of `CrossModal`.
        image_encoder_weights: file, folder or hub name of public weights, read when training begins (a
            checkpoint has its own); None = random weights. Formats: kovilt/formats/image_encoder.py.
    """

    def __init__(
        self,
        *,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        image_size: int,
        vocab_size: int,
        max_text_len: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.1,
        image_pooling: Literal['first', 'mean'] = 'first',
        init_std: float = 0.02,
        image_encoder_weights: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.image_encoder_weights = image_encoder_weights
        self.hidden_size, self.pooled_size, self.vocab_size = hidden_size, 2 * hidden_size, vocab_size
        self.image_size, self.max_text_len, self.init_std = image_size, max_text_len, init_std
        self.image_encoder = MODELS.build(dict(image_encoder, img_size=image_size))
        self.text_encoder = MODELS.build(dict(text_encoder, vocab_size=vocab_size, max_text_len=max_text_len))
        self.cross_modal = CrossModal(
            text_dim=self.text_encoder.embed_dims,
            image_dim=_width(self.image_encoder),
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            image_pooling=image_pooling,
            init_std=init_std,
        )

    def init_weights(self) -> None:
        """Take the encoders' public weights; the runner calls this before training, and before a checkpoint is loaded.

        Raises:
            KoviltError: nothing there, another kind of model, other sizes.
        """
        super().init_weights()
        if self.image_encoder_weights is not None:
            from kovilt.formats.image_encoder import load_image_encoder

            report = load_image_encoder(self.image_encoder, self.image_encoder_weights)
            for line in str(report).splitlines():
                print_log(line, logger='current')

    def resized(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """A checkpoint's tensors with the image encoder's positions resized to this encoder's images.

        METER pre-trains at 288 pixels and fine-tunes at 576. `prefix` stands before the encoder's names.
        """
        from kovilt.formats.image_encoder import resize_positions

        name, own = f'{prefix}image_encoder.pos_embed', getattr(self.image_encoder, 'pos_embed', None)
        if own is None or name not in state or state[name].shape == own.shape:
            return state
        print_log(f'positions of images resized, {state[name].shape[1]} to {own.shape[1]}', logger='current')
        return state | {name: resize_positions(state[name], own)}

    def embed_images(self, images: Tensor) -> Tensor:
        """Look at each image of the batch once, for all texts and passes that speak of it.

        images (I, 3, S, S), normalised; returns (I, N, D).

        Raises:
            KoviltError: images of another size.
        """
        height, width = images.shape[2:]
        if (height, width) != (self.image_size, self.image_size):
            raise KoviltError(
                f'images of {width} x {height} pixels, but model.encoder.image_size is {self.image_size}; give '
                'CropSquare and the encoder the same number'
            )
        with fast_attention(images.device):
            states = self.image_encoder(images)[-1]
        if states.ndim == 4:
            states = states.flatten(2).transpose(1, 2)
        return self.cross_modal.embed_images(states)

    def forward(
        self, *, input_ids: Tensor, text_mask: Tensor, images: Tensor, image_index: Tensor, output: Output = 'all'
    ) -> tuple[Tensor, Tensor | None]:
        """The states of words (B, L, D) and images (B, N, D) of B pairs, or what `output` says of them.

        input_ids int64 and text_mask bool (B, L), image_index int64 (B,), on the host; images (I, N, D) from
        `embed_images`, on the device; `output` as in `CrossModal`.
        """
        input_ids, text_mask, image_index = (to_device(x, images.device) for x in (input_ids, text_mask, image_index))
        with fast_attention(images.device):
            text = self.text_encoder(input_ids, text_mask)
            return self.cross_modal(text, text_mask, images.index_select(0, image_index), output=output)

    def pool(self, words: Tensor, images: Tensor) -> Tensor:
        """(B, 2 D); see `CrossModal.pool`."""
        return self.cross_modal.pool(words, images)


def _width(image_encoder: nn.Module) -> int:
    """Of the last output: backbones of several stages list their widths."""
    return getattr(image_encoder, 'num_features', [image_encoder.embed_dims])[-1]


@MODELS.register_module()
class METERForVQA(AnsweringModel):
    """METER with an answer head on the pooled states of text and image.

    Args:
        encoder: config of `METER`.
        vqa_head: config of `VQAHead`.
        data_preprocessor: config of the preprocessor, `METERPreprocessor`.
        topk: how many answers a prediction lists, best first.
    """

    preprocessor = (
        'METERPreprocessor'  # which wants the image encoder's mean and deviation: without a config it says so
    )

    def pooled(self, batch: Batch) -> Tensor:
        images = self.encoder.embed_images(batch['images'])
        return self.encoder.pool(
            *self.encoder(
                input_ids=batch['input_ids'],
                text_mask=batch['text_mask'],
                images=images,
                image_index=batch['image_index'],
                output='cls',
            )
        )


@MODELS.register_module()
class METERForPreTraining(PreTrainingModel):
    """METER with its two objectives, in two passes over each batch: masked words and image-text matching.

    Args:
        encoder: config of `METER`.
        mlm_head: config of `MLMHead`.
        itm_head: config of `ITMHead`, on the pooled states of text and image.
        data_preprocessor: config of the preprocessor, `METERPreprocessor`.
    """

    loss_names = ('mlm_loss', 'mlm_accuracy', 'itm_loss', 'itm_accuracy')

    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        mlm_head: dict[str, Any],
        itm_head: dict[str, Any],
        data_preprocessor: dict[str, Any],
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.encoder = MODELS.build(encoder)
        sizes = dict(hidden_size=self.encoder.hidden_size, init_std=self.encoder.init_std)
        self.mlm_head = MODELS.build(dict(mlm_head, vocab_size=self.encoder.vocab_size, **sizes))
        self.itm_head = MODELS.build(dict(itm_head, **sizes | dict(hidden_size=self.encoder.pooled_size)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images = self.encoder.embed_images(batch['images'])
        return self._masked_words(batch, images) | self._matching(batch, images)

    def _masked_words(self, batch: Batch, images: Tensor) -> dict[str, Tensor]:
        damaged, labels = self.mlm_head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])
        words, _ = self.encoder(
            input_ids=damaged,
            text_mask=batch['text_mask'],
            images=images,
            image_index=batch['image_index'],
            output='text',
        )
        return self.mlm_head.loss(words.flatten(0, 1), labels.flatten())

    def _matching(self, batch: Batch, images: Tensor) -> dict[str, Tensor]:
        image_index, matched = self.itm_head.sample_negatives(
            batch['image_index'], batch['image_id'], batch['sample_seed']
        )
        states = self.encoder(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            images=images,
            image_index=image_index,
            output='cls',
        )
        return self.itm_head.loss(self.encoder.pool(*states), to_device(matched, images.device))
