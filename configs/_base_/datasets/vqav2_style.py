"""VQAv2 in translation: its two files a split and COCO's images, ten answers a question; loading as for AI-Hub 101.

KOVILT_VQAV2 names another folder, KOVILT_TOKENIZER another tokenizer. Files of other names: questions='...{split}...',
annotations='...' in both datasets; other images: image_names='{}.jpg'.
"""
_base_ = './aihub_living_vqa.py'
data_root = '{{$KOVILT_VQAV2:data/vqav2_ko}}'

train_dataloader = dict(dataset=dict(
    type='VQAv2Style', data_root=data_root, target='soft', answers=dict(min_count=9)))   # ViLT: 3,129 answers
val_dataloader = dict(dataset=dict(type='VQAv2Style', data_root=data_root))
