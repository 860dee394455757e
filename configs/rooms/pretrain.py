"""Pre-training on Rooms captions. rooms/pretrain_single_objects.py, from which it may start, saves it most of its way.

Data: python tools/data/make_rooms.py data/rooms --images 2000
Command: python tools/train.py configs/rooms/pretrain.py --amp
"""
_base_ = ['../_base_/runtime_steps.py', '../_base_/models/pretraining.py',
          '../_base_/datasets/rooms_captions.py', '../_base_/schedules/rooms.py']
model = dict(
    encoder=dict(
        hidden_size=192, num_layers=4, num_heads=6, patch_size=16, image_size=96, drop_rate=0.0,
        activation='relu', init_std=0.05, pos_init='sincos'),
    matching_every=4,                                  # masked words teach it to look; matching is learned on the way
    mlm_head=dict(
        mask_ratio=0.15,
        content_ratio=0.9,                             # names of things are what the image is needed for
        content_words=['소파', '의자', '탁자', '침대', '램프', '텔레비전', '냉장고', '화분', '책',
                       '시계', '창문', '액자', '고양이', '강아지', '컵', '공', '우산', '가방']),
    wpa_head=dict(loss_weight=3.0, mismatched='push', mean_center=True, block=2))   # docs/benchmarks.md: alignment
