"""Fine-tuning on AI-Hub 101 without its images, from random weights: what language alone can answer.

Data: as kovilt_vqa_aihub.py.
Expected: not measured; between majority_accuracy and the accuracy of kovilt_vqa_aihub_scratch.py.
Time: shorter than kovilt_vqa_aihub.py: only the tokens of the question are encoded.
Command: bash tools/dist_train.sh ablations/vqa_question_only 8 --amp
"""
_base_ = '../kovilt_vqa_aihub.py'
load_from = None
train_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
val_dataloader = dict(dataset=dict(image_pipeline=[dict(type='NoImage')]))
