import numpy as np
import pyarrow as pa
import pytest

from kovilt.datasets import rng
from kovilt.datasets.rng import hash63, hash_texts, sampling_keys
from kovilt.datasets.table import STRING


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


def test_hashes_of_texts_are_the_same_on_every_machine():
    texts = pa.array(['고양이', '', 'TV 위에', '예', '예'], type=STRING)
    yes = 8135295743088217879
    assert hash_texts(texts).tolist() == [1225201917062037962, 0, 1041968517103409238, yes, yes]
    assert hash_texts(texts[2:]).tolist() == [1041968517103409238, yes, yes]


@pytest.mark.parametrize('at_once', [1, 3, 1 << 16])
def test_hashes_are_equal_for_equal_texts_alone(monkeypatch, at_once):
    monkeypatch.setattr(rng, '_HASH_CHUNK', at_once)
    texts = ['예', '', *map(str, range(2000)), *(f'상_train_동물/{number}' for number in range(100)), '예', '']
    hashes = hash_texts(pa.array(texts, type=STRING)).tolist()
    assert len(set(hashes)) == len(set(texts))
    assert (hashes[0], hashes[1]) == (hashes[-2], 0)
    assert hash_texts(pa.array(['', ''], type=STRING)).tolist() == [0, 0]
    assert not len(hash_texts(pa.array([], type=STRING)))
