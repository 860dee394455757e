"""The first steps of pre-training: what names mean, on images of one thing each.

Data: python tools/data/make_rooms.py data/rooms --images 2000
      python tools/data/make_rooms.py data/rooms_alone --images 2000 --alone 1 --seed 1
Command: python tools/train.py configs/rooms/pretrain_single_objects.py --amp
"""
_base_ = './pretrain.py'
model = dict(
    matching_every=16,                                 # one thing and one thing: there is little to match yet;
    wpa_head=dict(loss_weight=0.1))                    # four pairs at full weight are noise: docs/benchmarks.md
train_dataloader = dict(dataset=dict(data_root='{{$KOVILT_ROOMS_ALONE:data/rooms_alone}}/captions'))
