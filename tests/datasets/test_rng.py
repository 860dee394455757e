import numpy as np

from kovilt.datasets.rng import hash63, sampling_keys


def test_the_hash_of_known_parts_never_changes():
    assert hash63('aihub101/음식/1') == 9109317099872863279
    assert hash63(0, 1, 2) == hash63(0, 1, 2)


def test_parts_and_their_order_count():
    parts = [(0, 1, 2), (0, 2, 1), (0, 12), ('0', 1, 3), (0, 1, 2, '')]
    assert len({hash63(*each) for each in parts}) == len(parts)


def test_it_fits_a_signed_64_bit_number():
    assert all(0 <= hash63(number) < 2**63 for number in range(1000))


def test_a_sampling_key_depends_on_the_thing_and_not_on_its_position():
    identities, texts = np.arange(1000) - 500, np.arange(1000) % 7
    keys = sampling_keys(3, identities, texts)
    assert keys.dtype == np.uint64 and np.array_equal(sampling_keys(3, identities[::-1], texts[::-1]), keys[::-1])
    assert (
        not (keys == sampling_keys(4, identities, texts)).any()
        and not (keys == sampling_keys(3, texts, identities)).any()
    )


def test_sampling_keys_are_even_and_rarely_equal():
    drawn = sampling_keys(0, np.arange(100_000))
    assert len(np.unique(drawn)) == len(drawn)
    sixteenths = np.bincount((drawn >> np.uint64(60)).astype(int), minlength=16)
    assert (abs(sixteenths - 6250) < 5 * 6250**0.5).all()
