from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.campaign.model import Thresholds
from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from gan_htvs.core.candidate import RelaxedStructure
from gan_htvs.core.errors import UserError
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.stages import Stage
from gan_htvs.thermodynamics import assessment
from gan_htvs.thermodynamics.assessment import check_relaxation, decide, qualifies_for_band_gap
from tests.helpers import references

LEVEL = "CHGNet-0.3.0"
MGO_PER_ATOM = -6.314
"""CHGNet total energy of MgO, eV/atom."""


@pytest.fixture(scope="module")
def assess():
    """Assess structures with reference phases of Mg-O and default Pourbaix settings."""
    energies = {"Mg": -1.55, "O2": -4.94795546875, "MgO": MGO_PER_ATOM}
    phases = references(LEVEL, energies)
    return lambda relaxed: assessment.assess(relaxed, phases, PourbaixSettings())


def relaxed(excess: float = 0.0, *, shift: float = 0.5, **changes) -> RelaxedStructure:
    rhombohedral = Lattice.rhombohedral(4.21 / 2**0.5, 60)
    structure = Structure(rhombohedral, ["Mg", "O"], [[0, 0, 0], [shift] * 3])
    fields = {
        "structure": structure,
        "energy_per_atom": MGO_PER_ATOM + excess,
        "level_of_theory": LEVEL,
        "converged": True,
    }
    return RelaxedStructure(**(fields | changes))


def gap_of(value: float) -> BandGapResult:
    return BandGapResult(band_gap=value, method="HSE06@PBE (non-SCF, GPAW)")


def incomplete_gap_of(value: float) -> BandGapResult:
    orders = (
        MagneticOrderingResult(start="FM", order="FM", energy_per_atom=-7.0),
        MagneticOrderingResult(start="AFM", reason="no convergence"),
    )
    return BandGapResult(band_gap=value, method="HSE06@PBE+U", magnetic_orders=orders)


def test_unsound_geometry_is_rejected_at_any_energy():
    stage, reason = check_relaxation(relaxed(excess=-5, shift=0.05))
    assert stage is Stage.REJECTED
    assert "atoms_too_close" in reason


def test_unconverged_relaxation_fails():
    stage, reason = check_relaxation(relaxed(converged=False, n_steps=500))
    assert stage is Stage.FAILED
    assert "500 steps" in reason
    assert check_relaxation(relaxed()) is None


@pytest.mark.parametrize("excess", [-0.05, 0.0, 0.1])
def test_energy_above_hull_is_the_excess_over_the_stable_phase(assess, excess):
    stability = assess(relaxed(excess))
    assert stability.decomposition_energy == pytest.approx(excess, abs=1e-9)
    assert stability.energy_above_hull == pytest.approx(max(excess, 0), abs=1e-9)
    assert stability.decomposes_to == {"MgO": pytest.approx(1)}


@pytest.mark.parametrize(
    ("excess", "gap", "stage"),
    [
        (0.3, None, Stage.REJECTED),
        (-0.3, gap_of(2.5), Stage.REJECTED),
        (-0.05, gap_of(2.5), Stage.PHOTOANODE),
        (0.1, None, Stage.RELAXED),
        (0.0, None, Stage.POURBAIX_STABLE),
        (0.0, BandGapResult(reason="GPAW is not installed"), Stage.POURBAIX_STABLE),
        (0.0, gap_of(6.3), Stage.POURBAIX_STABLE),
        (0.0, incomplete_gap_of(2.5), Stage.POURBAIX_STABLE),
        (0.0, gap_of(2.5), Stage.PHOTOANODE),
    ],
)
def test_stage_of_energies_and_gaps(assess, excess, gap, stage):
    decided, reason = decide(assess(relaxed(excess)), gap, Thresholds())
    assert decided is stage
    assert (reason is None) == (stage is Stage.PHOTOANODE)


@pytest.mark.parametrize(("value", "is_photoanode"), [(2.5, True), (6.3, False)])
def test_incomplete_gap_passes_if_it_is_accepted(assess, value, is_photoanode):
    stability, gap = assess(relaxed()), incomplete_gap_of(value)
    stage, _ = decide(stability, gap, Thresholds(), accept_incomplete=True)
    assert (stage is Stage.PHOTOANODE) == is_photoanode


def test_implausible_energy_is_rejected(assess):
    hole = assess(relaxed(excess=-0.3))
    assert not qualifies_for_band_gap(hole, Thresholds())
    assert decide(hole, None, Thresholds())[0] is Stage.REJECTED
    assert qualifies_for_band_gap(assess(relaxed(excess=-0.05)), Thresholds())


def test_lowest_energy_depends_on_the_references(assess):
    low = assess(relaxed(excess=-0.2))
    stage, reason = decide(low, None, Thresholds())
    assert stage is Stage.REJECTED
    assert "-0.200 < -0.1 eV/atom (thresholds.lowest_decomposition_energy)" in reason
    incomplete = low.model_copy(update={"uncovered_subsystems": ["Mg-O"]})
    assert decide(incomplete, None, Thresholds())[0] is not Stage.REJECTED
    lower = incomplete.model_copy(update={"reference_decomposition_energy": -0.31})
    assert "-0.310 < -0.3 eV/atom" in decide(lower, None, Thresholds())[1]
    believing = Thresholds(lowest_decomposition_energy=-0.5)
    assert decide(low, None, believing)[0] is not Stage.REJECTED
    strict = Thresholds(lowest_decomposition_energy=-0.1)
    assert decide(incomplete, None, strict)[0] is Stage.REJECTED


def test_energy_of_another_level_of_theory_is_a_user_error(assess):
    with pytest.raises(UserError, match=r"SevenNet-0.*CHGNet-0\.3\.0"):
        assess(relaxed(level_of_theory="SevenNet-0"))


@pytest.mark.parametrize(("symbol", "length"), [("Mg", 6.2), ("Sr", 8.2)])
def test_volume_of_a_reference_phase_is_not_limited(symbol, length):
    metal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [symbol], [[0, 0, 0]])
    assert check_relaxation(relaxed(structure=metal), is_reference=True) is None
    stage, reason = check_relaxation(relaxed(structure=metal))
    assert stage is Stage.REJECTED
    assert "bad_volume" in reason
    assert "geometry.volume_per_atom" in reason
    unconverged = relaxed(structure=metal, converged=False, n_steps=9)
    assert check_relaxation(unconverged, is_reference=True)[0] is Stage.FAILED
