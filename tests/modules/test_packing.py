"""The packed layout: every index points at the tokens and patches of its own pair."""

import torch

from kovilt.modules.packing import Packing, bucket_size


def make_packing() -> Packing:
    return Packing(torch.tensor([3, 5, 3, 4]), torch.tensor([6, 2]), torch.tensor([0, 1, 1, 0]), torch.device('cpu'))


def test_a_segment_is_the_text_and_the_image_of_its_pair():
    packing = make_packing()
    text = torch.cat(
        [torch.tensor([10.0 * pair + place for place in range(length)]) for pair, length in enumerate([3, 5, 3, 4])]
    )
    in_packed_order = torch.tensor(
        [
            10.0 * pair + place
            for pair, place in zip(packing.token_pair.tolist(), packing.token_position.tolist(), strict=True)
        ]
    )
    assert sorted(in_packed_order.tolist()) == sorted(text.tolist())
    images = torch.cat([100 + torch.arange(7.0), 200 + torch.arange(3.0)])  # CLS first
    packed = torch.cat([in_packed_order, images])[packing.gather_index]
    for pair, (length, image) in enumerate(zip([3, 5, 3, 4], [0, 1, 1, 0], strict=True)):
        start, count = int(packing.starts[pair]), [7, 3][image]
        text_of_pair = [10 * pair + place for place in range(length)]
        expected = text_of_pair + [100 * (image + 1) + place for place in range(count)]
        assert packed[start : start + length + count].tolist() == expected


def test_groups_cover_all_pairs_without_padding():
    packing = make_packing()
    assert (
        sum(group.pairs * group.length for group in packing.groups) == len(packing.gather_index) == 15 + 2 * 7 + 2 * 3
    )


def test_output_tokens_are_found_again():
    packing = make_packing()
    for output in ('all', 'text', 'cls'):
        index = packing.output_index(output)
        assert index.tolist() == sorted(index.tolist())
        assert index[packing.cls_index(output)].tolist() == packing.starts.tolist()
        cu_seqlens, max_seqlen = packing.cu_seqlens(output)
        assert int(cu_seqlens[-1]) == len(index) and max_seqlen == max(
            group.output_length(output) for group in packing.groups
        )


def test_padded_indices_point_at_text_and_patches_and_mask_the_rest():
    packing = make_packing()
    index, mask = packing.patch_index()
    assert mask.sum(dim=1).tolist() == [6, 2, 2, 6]
    assert index[1, :2].tolist() == [int(packing.starts[1]) + 5 + 1, int(packing.starts[1]) + 5 + 2]
    assert packing.text_index(5)[0, :3].tolist() == [int(packing.starts[0]) + place for place in range(3)]
    last = len(packing.gather_index) - 1  # padding is arbitrary, but a valid position
    assert 0 <= int(index.min()) and int(index.max()) <= last and int(packing.text_index(50).max()) <= last


def test_there_are_few_buckets_and_little_padding():
    sizes = {bucket_size(length) for length in range(1, 5000)}
    assert len(sizes) < 110 and all(n <= bucket_size(n) <= max(n + 31, 1.032 * n) for n in range(1, 5000))
    assert bucket_size(0) == 0 and bucket_size(512) == 512


def test_a_padded_layout_gathers_every_head_once_and_scatters_it_back():
    packing = Packing(
        torch.randint(3, 9, (37,)),
        torch.tensor([6, 2]),
        torch.arange(37) % 2,
        torch.device('cpu'),
        use_buckets=True,
    )
    for output in ('all', 'text', 'cls'):
        count = sum(group.pairs * group.output_length(output) for group in packing.groups)
        x = torch.randn(len(packing.output_index(output)), 5, 3, 2)[:, 1:3]  # two parts of three heads of size 2
        layout = packing.padded_layout(output, num_heads=3)
        rows = layout.gather(x)
        back = layout.scatter(rows, len(x))
        assert torch.equal(back[:count], x[:count]) and not back[count:].any()
        assert len(layout.padding) + count * 3 == rows.shape[1]
        assert [len(rectangle) for rectangle in layout.rectangles(rows[0])] == [16 * 3, 16 * 3, 5 * 3]
