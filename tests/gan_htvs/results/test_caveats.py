from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.band_gap import BandGapResult
from gan_htvs.results.caveats import caveats_of, caveats_of_campaign, weak_points
from tests.documents import candidate
from tests.helpers import CHGNET, mg_o, rocksalt

PEROXIDE = Structure(
    Lattice.cubic(4.8), ["Mg", "O", "O"], [[0, 0, 0], [0.45, 0.5, 0.5], [0.75, 0.5, 0.5]]
)


def notes(structure, campaign=None, level=CHGNET, **fields):
    composition = structure.composition
    document = candidate("a").model_copy(
        update={
            "formula_pretty": composition.reduced_formula,
            "chemsys": composition.chemical_system,
            "structure": structure,
            "level_of_theory": level,
            "energy_above_hull": 0.0,
            "pourbaix": None,
            **fields,
        }
    )
    return " ".join(caveats_of(document, campaign))


def test_error_of_the_gap_is_a_caveat():
    gap = BandGapResult(band_gap=2.0, method="HSE06", uncertainty="about +-0.5 eV")
    assert "about +-0.5 eV" in notes(rocksalt(), band_gap_result=gap)
    assert notes(rocksalt(), band_gap_result=BandGapResult(reason="too large")) == ""


@pytest.mark.parametrize(("level", "is_noted"), [(CHGNET, True), ("PBE(+U)+MP2020", False)])
def test_peroxides_of_potentials(level, is_noted):
    assert ("peroxides" in notes(PEROXIDE, level=level)) == is_noted
    assert "peroxides" not in notes(rocksalt())


def test_polymorphs_of_mno2_with_chgnet():
    pyrolusite = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.4, 2.87), ["Mn", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )
    assert "hollandite" in notes(pyrolusite)
    assert "hollandite" not in notes(pyrolusite, level="SevenNet-0+MP2020")
    assert "hollandite" not in notes(rocksalt("Mn"))


def test_vanadium_oxides_lack_phases_of_the_package(tmp_path):
    vanadium_oxide = rocksalt("V")
    assert "V3O7" in notes(vanadium_oxide)
    own = mg_o(references={"source": "folder", "path": tmp_path})
    assert "V3O7" not in notes(vanadium_oxide, own)


def test_doubtful_ion_needs_a_pourbaix_energy():
    assert "VO4[-]" in notes(rocksalt("V"), pourbaix=candidate("b", minimum=0.3).pourbaix)
    assert "VO4[-]" not in notes(rocksalt("V"))


def test_candidate_without_results_has_no_caveats():
    assert notes(rocksalt("V"), energy_above_hull=None) == ""


def test_caveats_of_a_campaign_follow_its_stages():
    both = list(caveats_of_campaign(mg_o(engines={"band_gap": {"name": "gpaw"}})))
    assert any("HSE06" in caveat for caveat in both)
    assert any("Aqueous" in caveat for caveat in both)
    hull = [{"name": "stable", "property": "energy_above_hull", "max": 0.1}]
    alone = list(caveats_of_campaign(mg_o(stages=hull, engines={"band_gap": {"name": "gpaw"}})))
    assert not any("HSE06" in caveat or "Aqueous" in caveat for caveat in alone)


def test_every_weak_point_has_a_source():
    assert weak_points()
    assert all(point.source for point in weak_points())
