from __future__ import annotations

import numpy as np
import pytest

from gan_htvs.core.band_gap import (
    BandEdges,
    BandGapResult,
    MagneticOrderingResult,
    fill_bands,
    magnetic_order,
    undetermined_bands,
)


class TestFillBands:
    def test_an_insulator_with_an_indirect_gap(self):
        spectrum = [[[-1.0, 0.0, 5.0], [-2.0, -0.5, 3.0]]]
        edges = fill_bands(spectrum, [1, 3], 4)
        assert edges == BandEdges(vbm=0.0, cbm=3.0, is_metal=False, is_direct=False)
        assert edges.gap == 3.0

    def test_a_direct_gap(self):
        edges = fill_bands([[[0.0, 2.0], [-1.0, 3.0]]], [0.5, 0.5], 2)
        assert edges.is_direct
        assert edges.gap == 2.0

    def test_overlapping_bands_are_a_metal_despite_a_level_spacing(self):
        # The second band at k=0 lies below the first at k=1: filled counts are 2 and 0.
        edges = fill_bands([[[0.0, 1.0], [2.0, 3.0]]], [1, 1], 2)
        assert edges.is_metal
        assert edges.gap == 0
        assert edges.is_direct is None

    def test_an_odd_electron_is_a_metal_without_spin_and_not_with_it(self):
        assert fill_bands([[[0.0, 1.0]]], [1], 1).is_metal
        polarized = fill_bands([[[0.0, 1.0]], [[2.0, 3.0]]], [1], 1)
        assert not polarized.is_metal
        assert polarized.gap == 1.0

    def test_a_half_filled_degenerate_level_is_a_metal(self):
        assert fill_bands([[[0.0, 0.0, 4.0]]], [1], 2).is_metal

    def test_both_spins_share_one_fermi_level(self):
        # Half-metal: spin up is gapped, spin down is cut by the Fermi level.
        up = [[-1.0, 4.0], [-1.0, 4.0]]
        down = [[0.0, 1.0], [2.0, 3.0]]
        assert fill_bands([up, down], [1, 1], 2).is_metal

    def test_a_pbe_metal_can_fill_as_an_insulator(self):
        pbe = [[[0.0, 1.0], [1.5, 3.0]]]
        hybrid = [[[0.0, 3.0], [1.5, 5.0]]]
        assert fill_bands(pbe, [1, 1], 2).is_metal
        assert fill_bands(hybrid, [1, 1], 2).gap == 1.5

    def test_points_of_weight_zero_are_filled_like_the_others(self):
        # The band edges lie at the second point, inside the gap of the first one.
        edges = fill_bands([[[-1.0, 0.0, 5.0], [-1.0, 0.3, 2.0]]], [1, 0], 4)
        assert (edges.vbm, edges.cbm, edges.is_metal, edges.is_direct) == (0.3, 2.0, False, True)

    def test_points_of_weight_zero_may_lie_apart(self):
        edges = fill_bands([[[0.0, 5.0], [0.3, 4.0], [-0.5, 2.0]]], [1, 0, 0], 2)
        assert (edges.vbm, edges.cbm, edges.is_direct) == (0.3, 2.0, False)

    def test_points_of_weight_zero_hold_no_electrons(self):
        # A reservoir that filled them as well would end one band lower at the first point.
        spectrum = [[[0.0, 1.0, 4.0], [0.5, 1.5, 3.0], [0.5, 1.5, 3.0]]]
        assert fill_bands(spectrum, [1, 0, 0], 4).gap == pytest.approx(1.5)

    def test_points_of_weight_zero_of_two_spins(self):
        # Three electrons: two bands of spin up, one of spin down.
        up = [[0.0, 1.0, 5.0], [0.2, 1.2, 4.0]]
        down = [[0.0, 4.5, 6.0], [0.1, 3.0, 6.0]]
        edges = fill_bands([up, down], [1, 0], 3)
        assert (edges.vbm, edges.cbm, edges.is_direct) == (1.2, 3.0, True)

    def test_an_overlap_at_a_point_of_weight_zero_is_a_metal(self):
        edges = fill_bands([[[0.0, 2.0], [1.5, 3.0], [-1.0, 1.0]]], [1, 0, 0], 2)
        assert edges.is_metal
        assert edges.gap == 0

    def test_an_odd_electron_is_a_metal_whatever_lies_at_weight_zero(self):
        assert fill_bands([[[0.0, 1.0], [-0.5, 2.0]]], [1, 0], 1).is_metal

    def test_a_spin_without_an_empty_band_is_no_answer(self):
        # The conduction band edge of spin up is not among the bands.
        up, down = [[0.0, 1.0]], [[2.0, 6.0]]
        assert fill_bands([up, down], [1], 2) is None
        assert fill_bands([[[0.0, 1.0, 3.0]], [[2.0, 6.0, 7.0]]], [1], 2).gap == 1.0

    def test_a_metal_with_too_few_bands_stays_one(self):
        # More bands can only add empty levels below the ones that are known.
        assert fill_bands([[[0.0, 1.0], [2.0, 3.0]]], [1, 1], 2).is_metal

    def test_weights_decide_the_filling(self):
        # Both bands of the first k point hold half an electron each; equal weights would give
        # them one each and leave the second k point empty.
        spectrum = [[[0.0, 1.0], [2.0, 5.0]]]
        assert fill_bands(spectrum, [1, 3], 2).vbm == 2.0
        assert fill_bands(spectrum, [1, 1], 2).vbm == 1.0

    @pytest.mark.parametrize(
        ("spectrum", "electrons"),
        [
            ([[[-np.inf, 0.0, np.inf]]], 2),
            ([[[-np.inf, 0.0, np.inf]]], 4),
            ([[[0.0, 1.0]]], 4),
            ([[[0.0, 1.0]]], 0),
        ],
    )
    def test_a_fermi_level_outside_the_known_bands_is_no_answer(self, spectrum, electrons):
        assert fill_bands(spectrum, [1], electrons) is None


class TestUnsettledBands:
    start = np.array([[[-9.0, -0.9, 0.0, 2.0, 2.5, 9.0]]])

    def test_near_bands_are_wanted_and_far_ones_are_not(self):
        shifted = np.array([[[-np.inf, -np.inf, -0.5, 3.0, np.inf, np.inf]]])
        edges = fill_bands(shifted, [1], 6)
        wanted = undetermined_bands(self.start, shifted, edges)
        assert wanted.tolist() == [[[False, True, False, False, True, False]]]

    def test_nothing_is_wanted_twice(self):
        shifted = np.array([[[-np.inf, -1.5, -0.5, 3.0, 3.5, np.inf]]])
        edges = fill_bands(shifted, [1], 6)
        assert not undetermined_bands(self.start, shifted, edges).any()


@pytest.mark.parametrize(
    ("moments", "total", "order"),
    [
        ([0.0, 0.01], 0.0, "NM"),
        ([3.1, 3.0, -0.1], 6.0, "FM"),
        ([4.4, -4.4, 0.0, 0.0], 0.0, "AFM"),
        ([4.4, -2.9], 1.5, "FiM"),
    ],
)
def test_magnetic_order_is_named(moments, total, order):
    assert magnetic_order(moments, total=total) == order


def test_a_result_has_a_gap_or_a_reason():
    assert BandGapResult(reason="no engine").band_gap is None
    with pytest.raises(ValueError, match="either a band_gap or a reason"):
        BandGapResult()
    with pytest.raises(ValueError, match="either a band_gap or a reason"):
        BandGapResult(band_gap=1.0, reason="contradiction")


def test_a_magnetic_order_has_an_energy_or_a_reason():
    with pytest.raises(ValueError, match="either an energy or a reason"):
        MagneticOrderingResult(start="FM", nsites=2, kpoints=(4, 4, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_result_holds_a_number_that_is_not_finite(value):
    for field in ("energy_per_atom", "total_magnetization", "pbe_gap"):
        with pytest.raises(ValueError, match=field):
            MagneticOrderingResult(**{"start": "FM", "energy_per_atom": -8.0, field: value})
    for field in ("band_gap", "vbm", "cutoff"):
        with pytest.raises(ValueError, match=field):
            BandGapResult(**{"band_gap": 1.0, field: value})
    with pytest.raises(ValueError, match="hubbard_u"):
        BandGapResult(band_gap=1.0, hubbard_u={"Mn": value})


def test_a_magnetic_order_of_a_code_that_does_not_tell_its_mesh():
    order = MagneticOrderingResult(start="AFM-2", nsites=4, energy_per_atom=-8.0)
    assert order.kpoints is None


FM = MagneticOrderingResult(start="FM", order="FM", energy_per_atom=-7.0)
STOPPED = MagneticOrderingResult(start="AFM", reason="stopped", is_retryable=True)
UNCONVERGED = MagneticOrderingResult(start="AFM-2", reason="not converged")
SKIPPED = MagneticOrderingResult(start="AFM", reason="too large", is_skipped=True)
SAME = MagneticOrderingResult(start="AFM", order="FM", energy_per_atom=-7.0)


class TestIncompleteGaps:
    @pytest.mark.parametrize(
        ("orders", "reason", "is_retryable"),
        [
            ((), None, False),
            ((FM,), None, False),
            ((FM, SAME), None, False),
            ((FM, SKIPPED), None, False),
            ((FM, STOPPED), "missing magnetic order AFM: stopped", True),
            ((FM, UNCONVERGED), "missing magnetic order AFM-2: not converged", False),
            (
                (FM, STOPPED, UNCONVERGED),
                "missing magnetic order AFM: stopped; AFM-2: not converged",
                True,
            ),
        ],
    )
    def test_a_gap_is_complete_unless_orders_are_missing(self, orders, reason, is_retryable):
        result = BandGapResult(band_gap=1.3, magnetic_orders=orders)
        assert result.is_complete == (reason is None)
        assert (result.reason, result.is_retryable) == (reason, is_retryable)
        assert BandGapResult.model_validate(result.model_dump()) == result

    def test_without_a_gap_nothing_is_complete(self):
        assert not BandGapResult(reason="no engine", magnetic_orders=(FM,)).is_complete

    @pytest.mark.parametrize("claim", [{"is_complete": True}, {"reason": None}])
    def test_a_result_cannot_claim_to_be_complete(self, claim):
        with pytest.raises(ValueError, match=r"complete|missing"):
            BandGapResult(band_gap=1.3, magnetic_orders=(FM, STOPPED), **claim)
