"""Fine-tuning on AI-Hub 101 from the pre-trained body: the paper's "ViLT pre-trained" row, 78.61 %, 2 hours an epoch.

Data: AI-Hub 101 (1,646,080 training rows) in data/aihub_101; the checkpoint of kovilt_pretrain_coco.py.
Expected: about 78.6 % (paper, DEV of 3,000 questions); the paper's run without pre-training reached 79.46 %.
Time: the paper took 2 hours an epoch.
Command: bash tools/dist_train.sh configs/kovilt_vqa_aihub.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/vqa.py',
          './_base_/datasets/aihub_living_vqa.py', './_base_/schedules/finetuning.py']
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
load_from = 'work_dirs/kovilt_pretrain_coco/epoch_40.pth'   # its encoder; the heads are new
