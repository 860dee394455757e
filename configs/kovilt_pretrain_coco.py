"""Pre-training of Ko-ViLT: masked words, image-text matching, word-patch alignment, from random weights.

Data: AI-Hub 261, MS COCO images with Korean captions (about 600,000 pairs), in data/aihub_261. Expected:
mlm_accuracy and itm_accuracy rise, wpa_matched_distance falls below wpa_mismatched_distance. The paper gives no
numbers. Time: about 24.6 million pairs; on 8 GPUs of 200 useful TFLOP/s each about 2 hours for the arithmetic alone.
Command: bash tools/dist_train.sh configs/kovilt_pretrain_coco.py 8 --amp Start from a ViT's weights: --load-from
ENCODER_PREFIX.safetensors (tools/weights/ makes one).
"""
_base_ = ['./_base_/runtime.py', './_base_/models/pretraining.py',
          './_base_/datasets/aihub_coco_korean.py', './_base_/schedules/pretraining.py']
