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
    def test_indirect_gap(self):
        spectrum = [[[-1.0, 0.0, 5.0], [-2.0, -0.5, 3.0]]]
        edges = fill_bands(spectrum, [1, 3], 4)
        assert edges == BandEdges(vbm=0.0, cbm=3.0, is_metal=False, is_direct=False)
        assert edges.gap == 3.0

    def test_direct_gap(self):
        edges = fill_bands([[[0.0, 2.0], [-1.0, 3.0]]], [0.5, 0.5], 2)
        assert edges.is_direct
        assert edges.gap == 2.0

    def test_overlapping_bands_with_level_spacing_are_metallic(self):
        # The second band at k=0 lies below the first at k=1: filled counts are 2 and 0.
        edges = fill_bands([[[0.0, 1.0], [2.0, 3.0]]], [1, 1], 2)
        assert edges.is_metal
        assert edges.gap == 0
        assert edges.is_direct is None

    def test_odd_electron_is_metallic_only_without_spin_polarization(self):
        assert fill_bands([[[0.0, 1.0]]], [1], 1).is_metal
        polarized = fill_bands([[[0.0, 1.0]], [[2.0, 3.0]]], [1], 1)
        assert not polarized.is_metal
        assert polarized.gap == 1.0

    def test_half_filled_degenerate_level_is_metallic(self):
        assert fill_bands([[[0.0, 0.0, 4.0]]], [1], 2).is_metal

    def test_half_metal_is_metallic(self):
        # Spin up has a gap, spin down crosses the Fermi level.
        up = [[-1.0, 4.0], [-1.0, 4.0]]
        down = [[0.0, 1.0], [2.0, 3.0]]
        assert fill_bands([up, down], [1, 1], 2).is_metal

    def test_metal_in_pbe_can_be_an_insulator_in_hse(self):
        pbe = [[[0.0, 1.0], [1.5, 3.0]]]
        hybrid = [[[0.0, 3.0], [1.5, 5.0]]]
        assert fill_bands(pbe, [1, 1], 2).is_metal
        assert fill_bands(hybrid, [1, 1], 2).gap == 1.5

    def test_band_edges_at_points_of_weight_zero(self):
        # The band edges lie at the second point, inside the gap of the first one.
        edges = fill_bands([[[-1.0, 0.0, 5.0], [-1.0, 0.3, 2.0]]], [1, 0], 4)
        assert (edges.vbm, edges.cbm, edges.is_metal, edges.is_direct) == (0.3, 2.0, False, True)

    def test_indirect_gap_between_points_of_weight_zero(self):
        edges = fill_bands([[[0.0, 5.0], [0.3, 4.0], [-0.5, 2.0]]], [1, 0, 0], 2)
        assert (edges.vbm, edges.cbm, edges.is_direct) == (0.3, 2.0, False)

    def test_points_of_weight_zero_hold_no_electrons(self):
        # If they held electrons, one band less would be filled at the first point.
        spectrum = [[[0.0, 1.0, 4.0], [0.5, 1.5, 3.0], [0.5, 1.5, 3.0]]]
        assert fill_bands(spectrum, [1, 0, 0], 4).gap == pytest.approx(1.5)

    def test_points_of_weight_zero_with_two_spins(self):
        # Three electrons: two bands of spin up, one of spin down.
        up = [[0.0, 1.0, 5.0], [0.2, 1.2, 4.0]]
        down = [[0.0, 4.5, 6.0], [0.1, 3.0, 6.0]]
        edges = fill_bands([up, down], [1, 0], 3)
        assert (edges.vbm, edges.cbm, edges.is_direct) == (1.2, 3.0, True)

    def test_overlap_at_points_of_weight_zero_is_metallic(self):
        edges = fill_bands([[[0.0, 2.0], [1.5, 3.0], [-1.0, 1.0]]], [1, 0, 0], 2)
        assert edges.is_metal
        assert edges.gap == 0

    def test_odd_electron_is_metallic_with_points_of_weight_zero(self):
        assert fill_bands([[[0.0, 1.0], [-0.5, 2.0]]], [1, 0], 1).is_metal

    def test_insulating_spin_without_an_empty_band_returns_none(self):
        # The conduction band edge of spin up is not among the bands.
        up, down = [[0.0, 1.0]], [[2.0, 6.0]]
        assert fill_bands([up, down], [1], 2) is None
        assert fill_bands([[[0.0, 1.0, 3.0]], [[2.0, 6.0, 7.0]]], [1], 2).gap == 1.0

    def test_metal_without_empty_bands_is_metallic(self):
        # Further bands could only lower the lowest empty level.
        assert fill_bands([[[0.0, 1.0], [2.0, 3.0]]], [1, 1], 2).is_metal

    def test_filling_depends_on_weights(self):
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
    def test_fermi_level_outside_the_known_bands_returns_none(self, spectrum, electrons):
        assert fill_bands(spectrum, [1], electrons) is None


class TestUndeterminedBands:
    start = np.array([[[-9.0, -0.9, 0.0, 2.0, 2.5, 9.0]]])

    def test_bands_near_the_edges_are_undetermined(self):
        shifted = np.array([[[-np.inf, -np.inf, -0.5, 3.0, np.inf, np.inf]]])
        edges = fill_bands(shifted, [1], 6)
        undetermined = undetermined_bands(self.start, shifted, edges)
        assert undetermined.tolist() == [[[False, True, False, False, True, False]]]

    def test_known_bands_are_not_undetermined(self):
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
def test_moments_are_classified(moments, total, order):
    assert magnetic_order(moments, total=total) == order


def test_result_has_a_gap_or_a_reason():
    assert BandGapResult(reason="no engine").band_gap is None
    with pytest.raises(ValueError, match="band_gap"):
        BandGapResult()
    with pytest.raises(ValueError, match="band_gap"):
        BandGapResult(band_gap=1.0, reason="contradiction")


def test_magnetic_ordering_has_an_energy_or_a_reason():
    with pytest.raises(ValueError, match="energy"):
        MagneticOrderingResult(start="FM", nsites=2, kpoints=(4, 4, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_results_refuse_non_finite_numbers(value):
    for field in ("energy_per_atom", "total_magnetization", "pbe_gap"):
        with pytest.raises(ValueError, match=field):
            MagneticOrderingResult(**{"start": "FM", "energy_per_atom": -8.0, field: value})
    for field in ("band_gap", "vbm", "cutoff"):
        with pytest.raises(ValueError, match=field):
            BandGapResult(**{"band_gap": 1.0, field: value})
    with pytest.raises(ValueError, match="hubbard_u"):
        BandGapResult(band_gap=1.0, hubbard_u={"Mn": value})


def test_magnetic_ordering_without_kpoint_mesh():
    order = MagneticOrderingResult(start="AFM-2", nsites=4, energy_per_atom=-8.0)
    assert order.kpoints is None


FM = MagneticOrderingResult(start="FM", order="FM", energy_per_atom=-7.0)
KILLED = MagneticOrderingResult(start="AFM", reason="killed", is_retryable=True)
LIMITED = MagneticOrderingResult(start="AFM", reason="stopped", is_limited=True, scf_iterations=50)
UNCONVERGED = MagneticOrderingResult(start="AFM-2", reason="not converged")
SKIPPED = MagneticOrderingResult(start="AFM", reason="too large", is_skipped=True)
SAME = MagneticOrderingResult(start="AFM", order="FM", energy_per_atom=-7.0)


class TestIncompleteGaps:
    @pytest.mark.parametrize(
        ("orders", "reason", "is_limited"),
        [
            ((), None, False),
            ((FM,), None, False),
            ((FM, SAME), None, False),
            ((FM, SKIPPED), None, False),
            ((FM, LIMITED), "missing magnetic ordering AFM: stopped", True),
            ((FM, UNCONVERGED), "missing magnetic ordering AFM-2: not converged", False),
            (
                (FM, LIMITED, UNCONVERGED),
                "missing magnetic ordering AFM: stopped; AFM-2: not converged",
                True,
            ),
        ],
    )
    def test_gap_is_complete_unless_orderings_are_missing(self, orders, reason, is_limited):
        result = BandGapResult(band_gap=1.3, magnetic_orders=orders)
        assert result.is_complete == (reason is None)
        assert (result.reason, result.is_limited) == (reason, is_limited)
        assert not result.is_retryable
        assert BandGapResult.model_validate(result.model_dump()) == result

    def test_result_without_a_gap_is_incomplete(self):
        assert not BandGapResult(reason="no engine", magnetic_orders=(FM,)).is_complete

    @pytest.mark.parametrize("fields", [{"is_complete": True}, {"reason": None}])
    def test_inconsistent_completeness_is_refused(self, fields):
        with pytest.raises(ValueError, match=r"complete|missing"):
            BandGapResult(band_gap=1.3, magnetic_orders=(FM, LIMITED), **fields)

    def test_killed_ordering_leaves_no_gap(self):
        result = BandGapResult(magnetic_orders=(FM, KILLED))
        assert (result.is_complete, result.is_retryable) == (False, True)
        assert result.reason == "missing magnetic ordering AFM: killed"
        with pytest.raises(ValueError, match="killed"):
            BandGapResult(band_gap=1.3, magnetic_orders=(FM, KILLED))

    @pytest.mark.parametrize(
        ("orders", "limit", "is_final"),
        [
            ((FM, LIMITED), 50, True),
            ((FM, LIMITED), 51, False),
            ((FM, UNCONVERGED), 51, True),
            ((FM, SKIPPED), 51, True),
        ],
    )
    def test_larger_limit_may_complete_a_limited_gap(self, orders, limit, is_final):
        result = BandGapResult(band_gap=1.3, magnetic_orders=orders)
        limits = {"max_scf_iterations": limit, "max_hybrid_evaluations": 1}
        assert result.is_final(**limits) == is_final
        assert not BandGapResult(magnetic_orders=(*orders, KILLED)).is_final(**limits)
