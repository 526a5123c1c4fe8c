from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.band_gap import BandGapResult, MagneticOrderingResult
from gan_htvs.core.candidate import Assessment, RelaxedStructure
from gan_htvs.core.errors import UserError
from gan_htvs.core.funnel_stages import Decision, FunnelSettings
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.core.stages import Stage
from gan_htvs.thermodynamics import assessment
from gan_htvs.thermodynamics.assessment import check_relaxation, decide
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


def decision_of(
    assessment: Assessment, gap: BandGapResult | None = None, lowest: float | None = None
) -> Decision:
    document = {"band_gap": gap.band_gap if gap and gap.is_complete else None}
    reasons = {"band_gap": gap.shortcoming if gap else None}
    return decide(
        assessment, FunnelSettings(), document, lowest_decomposition_energy=lowest, reasons=reasons
    )


def test_unsound_geometry_is_rejected_at_any_energy():
    stage, reason = check_relaxation(relaxed(excess=-5, shift=0.05))
    assert stage == Stage.REJECTED
    assert "atoms_too_close" in reason


def test_unconverged_relaxation_fails():
    stage, reason = check_relaxation(relaxed(converged=False, n_steps=500))
    assert stage == Stage.FAILED
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
        (0.3, None, Stage.RELAXED),
        (-0.3, gap_of(2.5), Stage.REJECTED),
        (-0.05, gap_of(2.5), "photoanode"),
        (0.1, None, "metastable"),
        (0.0, None, "pourbaix_metastable"),
        (0.0, BandGapResult(reason="GPAW is not installed"), "pourbaix_metastable"),
        (0.0, gap_of(6.3), "pourbaix_stable"),
        (0.0, incomplete_gap_of(2.5), "pourbaix_metastable"),
        (0.0, gap_of(2.5), "photoanode"),
    ],
)
def test_stage_of_energies_and_gaps(assess, excess, gap, stage):
    decision = decision_of(assess(relaxed(excess)), gap)
    assert decision.stage == stage
    assert (decision.reason is None) == (stage == "photoanode")


def test_implausible_energy_is_rejected(assess):
    hole = assess(relaxed(excess=-0.3))
    assert decision_of(hole).stage == Stage.REJECTED
    assert decision_of(hole).missing is None
    assert decision_of(assess(relaxed(excess=-0.05))).missing == "band_gap"


def test_lowest_energy_depends_on_the_references(assess):
    low = assess(relaxed(excess=-0.2))
    stage, reason, _ = decision_of(low)
    assert stage == Stage.REJECTED
    assert "-0.200 < -0.1 eV/atom (references.lowest_decomposition_energy)" in reason
    incomplete = low.model_copy(update={"uncovered_subsystems": ["Mg-O"]})
    assert decision_of(incomplete).stage != Stage.REJECTED
    lower = incomplete.model_copy(update={"reference_decomposition_energy": -0.31})
    assert "-0.310 < -0.3 eV/atom" in decision_of(lower).reason
    assert decision_of(low, lowest=-0.5).stage != Stage.REJECTED
    assert decision_of(incomplete, lowest=-0.1).stage == Stage.REJECTED


def test_energy_of_another_level_of_theory_is_a_user_error(assess):
    with pytest.raises(UserError, match=r"SevenNet-0.*CHGNet-0\.3\.0"):
        assess(relaxed(level_of_theory="SevenNet-0"))


@pytest.mark.parametrize(("symbol", "length"), [("Mg", 6.2), ("Sr", 8.2)])
def test_volume_of_a_reference_phase_is_not_limited(symbol, length):
    metal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [symbol], [[0, 0, 0]])
    assert check_relaxation(relaxed(structure=metal), is_reference=True) is None
    stage, reason = check_relaxation(relaxed(structure=metal))
    assert stage == Stage.REJECTED
    assert "bad_volume" in reason
    assert "geometry.volume_per_atom" in reason
    unconverged = relaxed(structure=metal, converged=False, n_steps=9)
    assert check_relaxation(unconverged, is_reference=True)[0] == Stage.FAILED
