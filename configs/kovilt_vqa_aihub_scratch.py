"""Fine-tuning on AI-Hub 101 from random weights: the paper's row without pre-training, 79.46 %.

Data: AI-Hub 101 in data/aihub_101.
Expected: 79.46 % (paper, DEV of 3,000 questions).
Time: as kovilt_vqa_aihub.py.
Command: bash tools/dist_train.sh configs/kovilt_vqa_aihub_scratch.py 8 --amp
"""
_base_ = './kovilt_vqa_aihub.py'
load_from = None
