"""METER, the two-stream baseline, for pre-training and VQA (Dou et al., CVPR 2022, arXiv 2111.02387).

Shapes: B pairs, I images, S image_size, P patches and N states of an image, L text length, D hidden size.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from kovilt.errors import KoviltError, first_line
from kovilt.models.choice import ViLTForMultipleChoice
from kovilt.models.pretraining import ViLTForPreTraining
from kovilt.models.vqa import ViLTForVQA
from kovilt.modules.attention import fast_attention
from kovilt.modules.meter import CrossModal
from kovilt.modules.packing import Output, to_device
from kovilt.ranges import Layers, MLPRatio, Positive, Rate, Size, VocabSize, check_arguments
from kovilt.registry import MODELS

_UNUSED_POSITIONS = {'bert': 0, 'roberta': 2}  # RoBERTa counts positions from its padding id 1 on


@MODELS.register_module()
class TextEncoder(BaseModule):
    """A BERT or RoBERTa of transformers (`model_type`), without its pooler.

    Args:
        vocab_size, max_text_len: as of `METER`, which passes them.
        drop_rate: dropout on embeddings, attention weights, attention output and MLP.
        pretrained: folder or hub name of public weights of these sizes, read when training begins (a checkpoint has its
            own); None = random weights.
    """

    @check_arguments
    def __init__(
        self,
        *,
        vocab_size: VocabSize,
        max_text_len: Size,
        model_type: Literal['bert', 'roberta'],
        hidden_size: Size,
        num_layers: Layers,
        num_heads: Size,
        drop_rate: Rate,
        pretrained: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        from transformers import AutoConfig, AutoModel

        self.model_type, self.max_text_len, self.pretrained = model_type, max_text_len, pretrained
        self.hidden_size, self.num_layers = hidden_size, num_layers
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
        self.model: nn.Module = AutoModel.from_config(config, add_pooling_layer=False, attn_implementation='sdpa')

    def init_weights(self) -> None:
        """Load the weights of `pretrained`; the runner calls this before training, and before it loads a checkpoint.

        Raises:
            KoviltError: not found, a model of another type, or tensors of other sizes.
        """
        if self.pretrained is None:
            return
        from transformers import AutoModel

        path = Path(os.path.expanduser(self.pretrained))
        try:
            public = AutoModel.from_pretrained(
                str(path) if path.exists() else self.pretrained, add_pooling_layer=False, trust_remote_code=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise KoviltError(
                f'text encoder {self.pretrained}: neither a folder of transformers nor to be had from the hub '
                f'({first_line(error)}); give the folder of a BERT or RoBERTa, or pretrained=None for random weights'
            ) from error
        if (kind := public.config.model_type) != self.model_type:
            raise KoviltError(f'text encoder {self.pretrained}: a {kind}, but model_type is {self.model_type}')
        ours, theirs = self.model.state_dict(), public.state_dict()
        for name, value in theirs.items():
            if name not in ours or ours[name].shape != value.shape:
                here = tuple(ours[name].shape) if name in ours else 'nowhere'
                raise KoviltError(
                    f'text encoder {self.pretrained}: {name} is {tuple(value.shape)} there and {here} here; give '
                    'text_encoder its sizes, max_text_len its positions and TokenizeKorean its tokenizer'
                )
        self.model.load_state_dict(theirs)

    def forward(self, input_ids: Tensor, text_mask: Tensor) -> Tensor:
        """input_ids int64 and text_mask bool (B, L), on the device; returns (B, L, D).

        Raises:
            ValueError: the texts are longer than max_text_len.
        """
        if (longest := input_ids.shape[1]) > self.max_text_len:
            raise ValueError(f'a text of {longest} tokens is longer than max_text_len {self.max_text_len}')
        # transformers takes a mask of four axes unchanged; one of two it inspects, for which the host waits.
        mask = text_mask[:, None, None, :]
        return self.model(input_ids=input_ids, attention_mask=mask).last_hidden_state


@MODELS.register_module()
class METER(BaseModule):
    """METER's encoder: an image encoder, a text encoder, and co-attention between them.

    As published: CLIP's ViT-B/16 without its last block, RoBERTa, 6 layers of co-attention for each modality; 327 M
    parameters with VQAv2's answers. At 576 x 576 pixels 57 % of the operations are in the image encoder and 41 % in the
    co-attention.

    Args:
        image_encoder: config of a backbone of mmpretrain without `img_size`; its last output is (I, N, D), as of a
            VisionTransformer with out_type='raw', or a map (I, D, rows, columns), as of a SwinTransformer.
        text_encoder: config of `TextEncoder` without `vocab_size` and `max_text_len`.
        image_size: S, side of the square images in pixels.
        vocab_size, max_text_len: of the text encoder, in tokens.
        hidden_size, num_layers, num_heads, mlp_ratio, drop_rate, image_pooling, init_std: of `CrossModal`.
        image_encoder_weights: file, folder or hub name of public weights of the image encoder, read when training
            begins (a checkpoint has its own); None = random weights. Formats: kovilt/formats/image_encoder.py.
    """

    @check_arguments
    def __init__(
        self,
        *,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        image_size: Size,
        vocab_size: VocabSize,
        max_text_len: Size,
        hidden_size: Size,
        num_layers: Layers,
        num_heads: Size,
        mlp_ratio: MLPRatio,
        drop_rate: Rate,
        image_pooling: Literal['first', 'mean'] = 'first',
        init_std: Positive = 0.02,
        image_encoder_weights: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.image_encoder_weights = image_encoder_weights
        self.hidden_size, self.pooled_size, self.vocab_size = hidden_size, 2 * hidden_size, vocab_size
        self.image_size, self.max_text_len = image_size, max_text_len
        self.activation, self.init_std = 'gelu', init_std  # of the heads
        self.image_encoder = MODELS.build(dict(image_encoder, img_size=image_size))
        self.text_encoder = MODELS.build(dict(text_encoder, vocab_size=vocab_size, max_text_len=max_text_len))
        # A backbone of several stages lists the widths of all.
        image_dims = getattr(self.image_encoder, 'num_features', [self.image_encoder.embed_dims])
        self.cross_modal = CrossModal(
            text_dim=self.text_encoder.hidden_size,
            image_dim=image_dims[-1],
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            image_pooling=image_pooling,
            init_std=init_std,
        )

    def init_weights(self) -> None:
        """Load the public weights of both encoders; the runner calls this before training and before a checkpoint.

        Raises:
            KoviltError: not found, a model of another type, or tensors of other sizes.
        """
        super().init_weights()
        if self.image_encoder_weights is not None:
            from kovilt.formats.image_encoder import load_image_encoder

            report = load_image_encoder(self.image_encoder, self.image_encoder_weights)
            for line in str(report).splitlines():
                print_log(line, logger='current')

    def resize_positions(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """The tensors of a checkpoint, with the position embeddings of images resized to this encoder's image size.

        METER pre-trains at 288 pixels and fine-tunes at 576. `prefix` stands before the names of the encoder's tensors.
        """
        from kovilt.formats.image_encoder import resize_positions

        name, own = f'{prefix}image_encoder.pos_embed', getattr(self.image_encoder, 'pos_embed', None)
        if own is None or name not in state or state[name].shape == own.shape:
            return state
        print_log(f'positions of images resized, {state[name].shape[1]} to {own.shape[1]}', logger='current')
        return state | {name: resize_positions(state[name], own)}

    def embed_images(self, patches: Tensor, grids: Tensor) -> Tensor:
        """Take each image through the image encoder once, for all texts and passes of a batch.

        patches (sum of P, 3*p*p), normalised by `METERPreprocessor`, grids int64 (I, 2) on the host; returns (I, N, D).

        Raises:
            KoviltError: not all images are S x S, or a text has no image.
        """
        side = math.isqrt(patches.shape[1] // 3)
        sizes = {(columns * side, rows * side) for rows, columns in grids.tolist()}
        if sizes != {(self.image_size, self.image_size)}:
            found = ', '.join(f'{width} x {height}' for width, height in sorted(sizes))
            raise KoviltError(
                f'images of {found} pixels, but model.encoder.image_size is {self.image_size}; put CropSquare before '
                'Patchify and give it and the encoder the same number'
            )
        images = join_patches(patches, rows=self.image_size // side, side=side)
        with fast_attention(images.device):
            states = self.image_encoder(images)[-1]
        if states.ndim == 4:
            states = states.flatten(2).transpose(1, 2)
        return self.cross_modal.embed_images(states)

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        images: Tensor,
        image_index: Tensor,
        output: Output = 'all',
        grids: Tensor | None = None,
    ) -> METERStates:
        """Encode B pairs of a text and an image; arguments as of `ViLT.forward`, `grids` without effect."""
        input_ids, text_mask, image_index = (to_device(x, images.device) for x in (input_ids, text_mask, image_index))
        with fast_attention(images.device):
            text = self.text_encoder(input_ids, text_mask)
            return METERStates(*self.cross_modal(text, text_mask, images.index_select(0, image_index), output=output))

    def image_features(self, images: Tensor, grids: Tensor) -> Tensor:
        """A vector for each image that no text decides: the mean of its states in the image encoder, (I, D)."""
        return images.mean(dim=1)

    def pool(self, states: METERStates) -> Tensor:
        """See `CrossModal.pool`."""
        return self.cross_modal.pool(*states)


class METERStates(NamedTuple):
    """The states of B pairs after the last layer: those that `output` names, as `CrossModal.forward` returns them."""

    text: Tensor
    images: Any  # Tensor; None with output 'text'

    @property
    def packed(self) -> Tensor:
        """The states of the text, (B * L, D)."""
        return self.text.flatten(0, 1)

    def pack_text(self, per_token: Tensor) -> Tensor:
        """Bring a padded tensor (B, L), such as labels, into the order of `packed`."""
        return per_token.flatten()


def join_patches(patches: Tensor, *, rows: int, side: int) -> Tensor:
    """Patches of square images of `rows` x `rows` patches, (I * rows^2, 3 * side^2), as pixels (I, 3, S, S)."""
    pixels = patches.view(-1, rows, rows, 3, side, side).permute(0, 3, 1, 4, 2, 5)  # (I, 3, rows, side, rows, side)
    return pixels.reshape(-1, 3, rows * side, rows * side)


@MODELS.register_module()
class METERForVQA(ViLTForVQA):
    """A `ViLTForVQA` whose encoder is a `METER` and whose preprocessor a `METERPreprocessor`, which must be given."""

    default_preprocessor = 'METERPreprocessor'  # its mean and std have no default


@MODELS.register_module()
class METERForMultipleChoice(ViLTForMultipleChoice):
    """A `ViLTForMultipleChoice` whose encoder is a `METER`; its preprocessor, a `METERPreprocessor`, must be given."""

    default_preprocessor = 'METERPreprocessor'


@MODELS.register_module()
class METERForPreTraining(ViLTForPreTraining):
    """METER with its two objectives, MLM and ITM; arguments as of `ViLTForPreTraining`."""

    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        mlm_head: dict[str, Any],
        itm_head: dict[str, Any],
        data_preprocessor: dict[str, Any],
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            encoder=encoder,
            mlm_head=mlm_head,
            itm_head=itm_head,
            wpa_head=None,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
