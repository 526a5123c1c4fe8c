from __future__ import annotations

import pytest
from ase.build import bulk, molecule
from pymatgen.core import Lattice, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.evaluation import evaluate
from gan_htvs.evaluation.evaluation_documents import Outcome
from gan_htvs.evaluation.sample_sets import SampleSet
from gan_htvs.evaluation.structure_evaluation import EvaluationSettings
from gan_htvs.structures.validity import RejectionReason

from .conftest import (
    CSCL,
    ENERGIES,
    HOLE,
    ROCKSALT,
    WURTZITE,
    ZINCBLENDE,
    FixedRelaxations,
    relaxed,
)


def test_given_structures_are_all_counted():
    given = [CSCL, CSCL.copy(), HOLE, ZINCBLENDE]
    results = [relaxed(CSCL, 0.05), relaxed(CSCL, 0.04), relaxed(ZINCBLENDE, 0.0)]
    evaluation = evaluate(
        given, ENERGIES, training=[ZINCBLENDE], relaxations=FixedRelaxations(results)
    )
    overall = evaluation.overall
    assert [sample.index for sample in evaluation.samples] == [0, 1, 2, 3]
    assert (overall.valid.k, overall.valid.n) == (3, 4)
    assert (overall.unique.k, overall.unique.n) == (2, 3)
    assert (overall.novel.k, overall.novel.n) == (1, 2)
    assert overall.outcomes == {Outcome.SOUND: 3, Outcome.INVALID: 1}
    assert evaluation.samples[2].flaw is RejectionReason.ATOMS_TOO_CLOSE
    at = next(at for at in overall.thresholds if at.threshold == 0.1)
    assert (at.sun.k, at.sun.n) == (1, 4)
    assert overall.energy_percentiles[0] == pytest.approx(0.0)
    assert overall.energy_percentiles[50] == pytest.approx(0.04)
    assert overall.mean_rmsd == pytest.approx(0.0, abs=1e-6)
    assert (overall.read, overall.balanced, evaluation.seed) == (None, None, None)


def test_reference_set_has_no_structures_to_compare_with():
    results = [relaxed(ROCKSALT, 0.0)]
    given = evaluate([ROCKSALT], ENERGIES, relaxations=FixedRelaxations(results))
    shipped = evaluate([ROCKSALT], relaxations=FixedRelaxations(results))
    assert (given.samples[0].novel, shipped.samples[0].novel) == (True, False)
    assert (given.reference_phases, shipped.reference_phases) == (3, 4)


def test_structures_of_ase():
    samples = SampleSet.of([bulk("MgO", "rocksalt", a=4.21)], labels=["first"])
    assert samples.samples[0].label == "first"
    assert samples.samples[0].structure.matches(ROCKSALT)
    assert samples.draws[0].composition == "MgO"


def test_cells_are_compositions_of_their_own():
    doubled = ROCKSALT.make_supercell([2, 1, 1], in_place=False)
    evaluation = evaluate(
        [ROCKSALT, doubled, WURTZITE],
        relaxations=FixedRelaxations([]),
        settings=EvaluationSettings(n_relaxed=0),
    )
    assert {m.composition: m.unique.k for m in evaluation.compositions} == {"MgO": 1, "Mg2O2": 2}


def test_overlaps_are_only_removed_on_request():
    close = Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.25] * 3])
    kept = SampleSet.of([close])
    declashed = SampleSet.of([close], removes_overlaps=True)
    assert kept.samples[0].structure == close
    assert kept.samples[0].flaw is RejectionReason.ATOMS_TOO_CLOSE
    assert declashed.samples[0].flaw is None
    assert declashed.samples[0].max_displacement > 0
    assert declashed.draws[0].before_declash == {"atoms_too_close": 1}


@pytest.mark.parametrize(
    "given",
    [
        [],
        ROCKSALT,
        [molecule("H2O")],
        [Structure(Lattice.cubic(4.2), [{"Mg": 0.5, "Mn": 0.5}, "O"], [[0] * 3, [0.5] * 3])],
        [Structure(Lattice.cubic(3.0), [], [])],
    ],
)
def test_other_input_is_a_user_error(given):
    with pytest.raises(UserError):
        SampleSet.of(given)


def test_element_without_reference_phase_is_a_user_error_before_relaxation():
    manganosite = ROCKSALT.copy()
    manganosite.replace_species({"Mg": "Mn"})
    with pytest.raises(UserError, match="Mn"):
        evaluate([manganosite], ENERGIES, relaxations=FixedRelaxations([]))
