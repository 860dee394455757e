"""The packed layout puts every word and patch where the states are later looked for."""

import torch

from kovilt.modules.packing import Packing, bucket_size


def make_packing() -> Packing:
    return Packing(torch.tensor([3, 5, 3, 4]), torch.tensor([6, 2]), torch.tensor([0, 1, 1, 0]), torch.device('cpu'))


def test_every_pair_finds_its_own_words_and_image():
    packing = make_packing()
    words = torch.cat(
        [torch.tensor([10.0 * pair + place for place in range(length)]) for pair, length in enumerate([3, 5, 3, 4])]
    )
    in_packed_order = torch.tensor(
        [
            10.0 * pair + place
            for pair, place in zip(packing.token_pair.tolist(), packing.token_position.tolist(), strict=True)
        ]
    )
    assert sorted(in_packed_order.tolist()) == sorted(words.tolist())
    images = torch.cat([100 + torch.arange(7.0), 200 + torch.arange(3.0)])  # CLS first
    packed = torch.cat([in_packed_order, images])[packing.gather_index]
    for pair, (length, image) in enumerate(zip([3, 5, 3, 4], [0, 1, 1, 0], strict=True)):
        start, count = int(packing.starts[pair]), [7, 3][image]
        words_of_pair = [10 * pair + place for place in range(length)]
        expected = words_of_pair + [100 * (image + 1) + place for place in range(count)]
        assert packed[start : start + length + count].tolist() == expected


def test_runs_cover_all_pairs_without_padding():
    packing = make_packing()
    assert sum(run.pairs * run.length for run in packing.groups) == len(packing.gather_index) == 15 + 2 * 7 + 2 * 3


def test_what_is_read_is_found_again():
    packing = make_packing()
    for output in ('all', 'text', 'cls'):
        rows = packing.output_index(output)
        assert rows.tolist() == sorted(rows.tolist())
        assert rows[packing.cls_index(output)].tolist() == packing.starts.tolist()
        ends, longest = packing.cu_seqlens(output)
        assert int(ends[-1]) == len(rows) and longest == max(run.output_length(output) for run in packing.groups)


def test_grids_point_at_words_and_patches_and_mask_the_rest():
    packing = make_packing()
    index, mask = packing.patch_index()
    assert mask.sum(dim=1).tolist() == [6, 2, 2, 6]
    assert index[1, :2].tolist() == [int(packing.starts[1]) + 5 + 1, int(packing.starts[1]) + 5 + 2]
    assert packing.text_index(5)[0, :3].tolist() == [int(packing.starts[0]) + place for place in range(3)]
    last = len(packing.gather_index) - 1  # what lies beyond means nothing, but can be looked up
    assert 0 <= int(index.min()) and int(index.max()) <= last and int(packing.text_index(50).max()) <= last


def test_few_sizes_occur_after_rounding():
    sizes = {bucket_size(rows) for rows in range(1, 5000)}
    assert len(sizes) < 60 and all(rows <= bucket_size(rows) <= max(rows + 31, 1.125 * rows) for rows in range(1, 5000))
    assert bucket_size(0) == 0 and bucket_size(512) == 512


def test_a_rectangle_holds_every_row_once_and_leads_back():
    packing = Packing(
        torch.tensor([3, 5, 3, 4]),
        torch.tensor([6, 2]),
        torch.tensor([0, 1, 1, 0]),
        torch.device('cpu'),
        use_buckets=True,
    )
    for output, rows in (('all', 35), ('text', 15), ('cls', 4)):
        index, inside, back = packing.padded_layout(output)
        assert index[inside.flatten()].tolist() == list(range(rows)) and len(inside) == 4
        assert index[back[:rows]].tolist() == list(range(rows)) and not back[rows:].any()
