"""Rooms, the embedded data: drawn household scenes with Korean captions and questions, in the layouts of AI-Hub.

`kovilt rooms OUT --images N --seed S` writes

    OUT/vqa/{Training,Validation}/images/<subset>/<room>/<32 hex>.jpg     AI-Hub 101, folders
    OUT/vqa/{Training,Validation}/labels/[라벨]<subset>/<subset>.json     {"images": [...], "question": [...]}
    OUT/vqa/{Training,Validation}/{<subset>,[라벨]<subset>}.zip           AI-Hub 101, with --zip instead
    OUT/captions/MSCOCO_train_val_Korean.json                             AI-Hub 261, five captions an image
    OUT/captions/{train,val}2014/COCO_{train,val}2014_<12 digits>.jpg     the same images
    OUT/boxes.jsonl                                                       the visible box of every object
    OUT/rooms.json                                                        parameters, counts
    OUT/choices/{train,val}.jsonl                                         multiple-choice questions, with --choices

`scene` samples the objects and their boxes, `questions`, `unanswerable`, `choices` and `captions` write the texts,
`draw_scene` and `draw_object` draw the image, `write` writes the files. Image i of a split depends on (seed, split, i)
alone; its bytes depend on the version of Pillow too. Nothing here needs torch.
"""

from kovilt.rooms.choices import write_choices
from kovilt.rooms.scene import COLORS, KINDS, Scene, sample_scene
from kovilt.rooms.write import make_rooms

__all__ = ['COLORS', 'KINDS', 'Scene', 'sample_scene', 'make_rooms', 'write_choices']
