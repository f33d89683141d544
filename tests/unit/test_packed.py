"""Packed numbers come back to within half a step, and products with them are products."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.packed import pack, products, unpack

MOST = 12.0
STEP = MOST / 32767


def test_numbers_come_back_to_within_half_a_step():
    numbers = np.concatenate([np.random.default_rng(3).normal(0.0, 3.0, 9973), [0.0, MOST, -MOST]])
    numbers = np.clip(numbers, -MOST, MOST)
    packed = pack(numbers, MOST)
    assert packed.dtype == np.int16
    np.testing.assert_allclose(unpack(packed, MOST), numbers, rtol=0.0, atol=0.501 * STEP)


def test_what_is_larger_is_the_most():
    assert unpack(pack(np.array([99.0, -99.0]), MOST), MOST) == pytest.approx([MOST, -MOST])


def test_products_are_those_of_the_numbers_and_do_not_depend_on_company():
    random = np.random.default_rng(7)
    packed = pack(random.normal(0.0, 2.0, (131, 37, 11)), MOST)
    vectors = random.normal(0.0, 2.0, (131, 11)).astype(np.float32)
    at = random.permutation(131)
    found = products(packed, at, vectors, MOST)
    expected = np.einsum("krc,kc->kr", unpack(packed, MOST)[at].astype(float), vectors.astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for k in (0, 64, 130):
        np.testing.assert_array_equal(products(packed, at[k : k + 1], vectors[k : k + 1], MOST)[0], found[k])
