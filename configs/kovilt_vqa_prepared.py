"""Fine-tuning on prepared questions: the steps of the config that they were prepared with, and no image is decoded.

Data: python tools/data/prepare.py configs/kovilt_vqa_aihub.py data/prepared_vqa   (or another VQA config; any OUT in
    KOVILT_PREPARED_VQA). With --dev 3000: --cfg-options val_dataloader.dataset.split=dev
Expected: as the config that the data was prepared with; for AI-Hub 101 about 78.6 % (paper).
Time: as that config, less what reading, decoding and resizing took.
Command: bash tools/dist_train.sh configs/kovilt_vqa_prepared.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/vqa.py',
          './_base_/datasets/prepared_vqa.py', './_base_/schedules/finetuning.py']
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
load_from = 'work_dirs/kovilt_pretrain_coco/epoch_40.pth'   # its encoder; the heads are new
