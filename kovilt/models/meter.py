"""METER, the two-tower baseline, for pre-training and for answering (Dou et al., CVPR 2022, arXiv 2111.02387)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from kovilt.errors import KoviltError
from kovilt.models.base import Batch
from kovilt.models.pretraining import PreTrainingModel
from kovilt.models.vqa import AnsweringModel
from kovilt.modules.attention import fast_attention
from kovilt.modules.meter import CrossModal
from kovilt.modules.packing import Read, to_device
from kovilt.registry import MODELS

_UNUSED_POSITIONS = {'bert': 0, 'roberta': 2}  # RoBERTa counts positions from its padding id 1 on


@MODELS.register_module()
class TextTower(BaseModule):
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
                f'text tower {self.pretrained}: a {theirs.config.model_type}, but text_tower.model_type is {kind}'
            )
        for name, value in theirs.state_dict().items():
            if name not in ours or ours[name].shape != value.shape:
                here = tuple(ours[name].shape) if name in ours else 'nowhere'
                raise KoviltError(
                    f'text tower {self.pretrained}: {name} is {tuple(value.shape)} there and {here} here; give '
                    'text_tower its sizes, max_text_len its positions and TokenizeKorean its tokenizer'
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
            f'text tower {name}: neither a folder of transformers nor to be had from the hub ({reason}); give the '
            'folder of a BERT or RoBERTa, or pretrained=None for random weights'
        ) from error


@MODELS.register_module()
class METER(BaseModule):
    """A picture tower, a text tower, and co-attention between them.

    As published: CLIP's ViT-B/16 without its last block, RoBERTa, 6 layers of co-attention a side; 327 M parameters
    with VQAv2's answers. At 576 pixels a side 57 % of the work is in the picture tower and 41 % in the co-attention.

    Shapes: B pairs, I pictures, S image_size, L text length, N states of a picture, D hidden size.

    Args:
        image_tower: config of a backbone of mmpretrain, which gets `img_size`; its last output is (I, N, width), as of
            a VisionTransformer with out_type='raw', or a map (I, width, rows, columns), as of a SwinTransformer.
        text_tower: config of `TextTower`, which gets `vocab_size` and `max_text_len`.
        image_size: side of the square pictures, in pixels.
        vocab_size: number of tokens.
        max_text_len: longest text in tokens, as many as the text tower has positions.
        hidden_size, num_layers, num_heads, mlp_ratio, drop_rate, picture_pool, init_std: of `CrossModal`.
        image_weights: file, folder or hub name of public weights for the image tower, read when training begins (a
            checkpoint has its own); None = random weights. Formats: kovilt/formats/image_encoder.py.
    """

    def __init__(
        self,
        *,
        image_tower: dict[str, Any],
        text_tower: dict[str, Any],
        image_size: int,
        vocab_size: int,
        max_text_len: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.1,
        picture_pool: Literal['first', 'mean'] = 'first',
        init_std: float = 0.02,
        image_weights: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.image_weights = image_weights
        self.hidden_size, self.pooled_size, self.vocab_size = hidden_size, 2 * hidden_size, vocab_size
        self.image_size, self.max_text_len, self.init_std = image_size, max_text_len, init_std
        self.image_tower = MODELS.build(dict(image_tower, img_size=image_size))
        self.text_tower = MODELS.build(dict(text_tower, vocab_size=vocab_size, max_text_len=max_text_len))
        self.cross_modal = CrossModal(
            text_size=self.text_tower.embed_dims,
            picture_size=_width(self.image_tower),
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            picture_pool=picture_pool,
            init_std=init_std,
        )

    def init_weights(self) -> None:
        """Take the towers' public weights; the runner calls this before training, and before a checkpoint is loaded.

        Raises:
            KoviltError: nothing there, another kind of model, other sizes.
        """
        super().init_weights()
        if self.image_weights is not None:
            from kovilt.formats.image_encoder import load_image_tower, log_report

            log_report(load_image_tower(self.image_tower, self.image_weights))

    def resized(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """A checkpoint's tensors with the image tower's positions resized to this encoder's pictures.

        METER pre-trains at 288 pixels and fine-tunes at 576. `prefix` stands before the encoder's names.
        """
        from kovilt.formats.image_encoder import resize_positions

        name, own = f'{prefix}image_tower.pos_embed', getattr(self.image_tower, 'pos_embed', None)
        if own is None or name not in state or state[name].shape == own.shape:
            return state
        print_log(f'positions of pictures resized, {state[name].shape[1]} to {own.shape[1]}', logger='current')
        return state | {name: resize_positions(state[name], own)}

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Look at each picture of the batch once, for all texts and passes that speak of it.

        pictures (I, 3, S, S), normalised; returns (I, N, D).

        Raises:
            KoviltError: pictures of another size.
        """
        height, width = pictures.shape[2:]
        if (height, width) != (self.image_size, self.image_size):
            raise KoviltError(
                f'pictures of {width} x {height} pixels, but model.encoder.image_size is {self.image_size}; give '
                'CropSquare and the encoder the same number'
            )
        with fast_attention(pictures.device):
            states = self.image_tower(pictures)[-1]
        if states.ndim == 4:
            states = states.flatten(2).transpose(1, 2)
        return self.cross_modal.embed_pictures(states)

    def forward(
        self, *, input_ids: Tensor, text_mask: Tensor, pictures: Tensor, image_index: Tensor, read: Read = 'all'
    ) -> tuple[Tensor, Tensor | None]:
        """The states of words (B, L, D) and pictures (B, N, D) of B pairs, or what `read` says of them.

        input_ids int64 and text_mask bool (B, L), image_index int64 (B,), on the host; pictures (I, N, D) from
        `embed_pictures`, on the device; `read` as in `CrossModal`.
        """
        input_ids, text_mask, image_index = (to_device(x, pictures.device) for x in (input_ids, text_mask, image_index))
        with fast_attention(pictures.device):
            text = self.text_tower(input_ids, text_mask)
            return self.cross_modal(text, text_mask, pictures.index_select(0, image_index), read=read)

    def pool(self, words: Tensor, pictures: Tensor) -> Tensor:
        """(B, 2 D); see `CrossModal.pool`."""
        return self.cross_modal.pool(words, pictures)


def _width(image_tower: nn.Module) -> int:
    """Of the last output: backbones of several stages list their widths."""
    return getattr(image_tower, 'num_features', [image_tower.embed_dims])[-1]


@MODELS.register_module()
class METERForVQA(AnsweringModel):
    """METER with an answer head on the pooled states of text and picture.

    Args:
        encoder: config of `METER`.
        vqa_head: config of `VQAHead`.
        data_preprocessor: config of the preprocessor, `METERPreprocessor`.
        topk: how many answers a prediction lists, best first.
    """

    preprocessor = 'METERPreprocessor'  # which wants the tower's mean and deviation: without a config it says so

    def pooled(self, batch: Batch) -> Tensor:
        pictures = self.encoder.embed_pictures(batch['pictures'])
        return self.encoder.pool(
            *self.encoder(
                input_ids=batch['input_ids'],
                text_mask=batch['text_mask'],
                pictures=pictures,
                image_index=batch['image_index'],
                read='pooled',
            )
        )


@MODELS.register_module()
class METERForPreTraining(PreTrainingModel):
    """METER with its two objectives, in two passes over each batch: masked words and image-text matching.

    Args:
        encoder: config of `METER`.
        mlm_head: config of `MLMHead`.
        itm_head: config of `ITMHead`, on the pooled states of text and picture.
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
        pictures = self.encoder.embed_pictures(batch['pictures'])
        return self._masked_words(batch, pictures) | self._matching(batch, pictures)

    def _masked_words(self, batch: Batch, pictures: Tensor) -> dict[str, Tensor]:
        damaged, labels = self.mlm_head.corrupt(batch['input_ids'], batch['word_ids'], batch['sample_seed'])
        words, _ = self.encoder(
            input_ids=damaged,
            text_mask=batch['text_mask'],
            pictures=pictures,
            image_index=batch['image_index'],
            read='words',
        )
        return self.mlm_head.loss(words.flatten(0, 1), labels.flatten())

    def _matching(self, batch: Batch, pictures: Tensor) -> dict[str, Tensor]:
        image_index, matched = self.itm_head.draw_partners(
            batch['image_index'], batch['image_id'], batch['sample_seed']
        )
        states = self.encoder(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            pictures=pictures,
            image_index=image_index,
            read='pooled',
        )
        return self.itm_head.loss(self.encoder.pool(*states), to_device(matched, pictures.device))
