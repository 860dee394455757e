"""Fine-tuning on a folder of your own: images, and questions in train.jsonl and val.jsonl (or .csv).

Data: one path, KOVILT_CUSTOM (data/custom by default). A row is {"image": "a.jpg", "question": "...", "answer": "..."};
    docs/data.md tells the rest.
Expected: more than majority_accuracy, which always gives the most frequent answer; less than `ceiling`.
Time: as kovilt_vqa_aihub.py, by the number of rows.
Command: KOVILT_CUSTOM=FOLDER python tools/train.py configs/kovilt_vqa_custom.py --load-from PRETRAINED
"""
_base_ = ['./_base_/runtime.py', './_base_/models/vqa.py',
          './_base_/datasets/plain_vqa.py', './_base_/schedules/finetuning.py']
default_hooks = dict(checkpoint=dict(save_best='accuracy', rule='greater'))
