"""Fine-tuning on KVQA: soft targets of ten answers a question, binary cross-entropy as ViLT has on VQAv2.

Data: KVQA (100,445 images, one question each) in data/kvqa; the checkpoint of kovilt_pretrain_coco.py.
Expected: not measured. KVQA's own baseline (BAN) reaches 30.94 % of its ten-answer score on val; unanswerable questions
    (16 %) are asked and answered like all others.
Time: 10 epochs of at most 100,445 rows, half an epoch of kovilt_vqa_aihub.py: about an hour at the paper's speed.
Command: bash tools/dist_train.sh configs/kovilt_vqa_kvqa.py 8 --amp
"""
_base_ = ['./_base_/runtime.py', './_base_/models/vqa.py',
          './_base_/datasets/kvqa.py', './_base_/schedules/finetuning.py']
model = dict(vqa_head=dict(loss='bce'))
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
load_from = 'work_dirs/kovilt_pretrain_coco/epoch_40.pth'   # its encoder; the heads are new
