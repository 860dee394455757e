"""The images of predictions are found by their names, wherever they lie."""

import tarfile

import pytest

from kovilt.datasets.recognition import find_data_sets
from kovilt.reporting.images import find_image, thumbnail_of
from tests.support import planted_faults
from tests.support.pair_data import Data


def in_a_tar(data: Data) -> None:
    planted_faults.plain(data)
    with tarfile.open(data.root / 'images.tar', 'w') as tar:
        for file in sorted((data.root / 'images').iterdir()):
            tar.add(file, file.name)
            file.unlink()


@pytest.mark.parametrize(
    'layout',
    [
        planted_faults.plain,
        planted_faults.zipped,
        in_a_tar,
        planted_faults.parquet,
        planted_faults.tsv,
        planted_faults.question_shards,
        planted_faults.in_base64,
    ],
)
def test_every_image_is_found_by_its_name(tmp_path, layout):
    data = Data(tmp_path / 'data')
    layout(data)
    (reader,) = find_data_sets(data.root)
    images = reader(data_root=str(data.root), split='train').read_rows().images
    assert len(images) == 4
    for number in range(4):
        name, place = images.name(number), images[number]
        found = find_image(name)
        assert str(found) == name == str(place) and found.read_bytes() == place.read_bytes()
        assert thumbnail_of(name).startswith('data:image/')
    for other in (name.replace(str(data.root), str(tmp_path / 'none')), 'none.png', str(data.root)):
        assert not thumbnail_of(other)
