from kovilt.datasets.chance import hash63


def test_a_number_belongs_to_its_parts_for_ever():
    assert hash63('aihub101/음식/1') == 9109317099872863279
    assert hash63(0, 1, 2) == hash63(0, 1, 2)


def test_parts_and_their_order_count():
    parts = [(0, 1, 2), (0, 2, 1), (0, 12), ('0', 1, 3), (0, 1, 2, '')]
    assert len({hash63(*each) for each in parts}) == len(parts)


def test_it_fits_a_signed_64_bit_number():
    assert all(0 <= hash63(number) < 2**63 for number in range(1000))
