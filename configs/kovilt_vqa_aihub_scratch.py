"""Fine-tuning on AI-Hub 101 from random weights: the paper's "ViLT" without pre-training.

Data: AI-Hub 101, as kovilt_vqa_aihub.py.
Expected: 79.46 % (paper, DEV of 3,000 questions).
Time: as kovilt_vqa_aihub.py.
Command: bash tools/dist_train.sh kovilt_vqa_aihub_scratch 8 --amp
"""
_base_ = './kovilt_vqa_aihub.py'
load_from = None
