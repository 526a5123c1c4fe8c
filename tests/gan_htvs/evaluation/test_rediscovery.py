from __future__ import annotations

import os
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from gan_htvs.core.errors import UserError
from gan_htvs.dataset.arrays import read_array
from gan_htvs.evaluation.rediscovery import (
    DUPLICATE,
    NOT_SOUND,
    OUTSIDE,
    TRAINING,
    rediscovery,
    rediscovery_targets,
)
from gan_htvs.evaluation.rediscovery_documents import (
    PUBLISHED_REDISCOVERY,
    RediscoveryTargets,
    Target,
)
from tests.helpers import MG_MN_O, rocksalt

from .conftest import (
    CSCL,
    ENERGIES,
    LEAD_OXIDE,
    LEVEL,
    ROCKSALT,
    WURTZITE,
    ZINCBLENDE,
    FixedRelaxations,
    relaxed,
)


def targets_of(*structures) -> RediscoveryTargets:
    return RediscoveryTargets(
        window=0.2,
        level_of_theory=LEVEL,
        n_given=len(structures),
        skipped={},
        targets=[
            Target(
                label=str(i),
                formula=structure.composition.reduced_formula,
                decomposition_energy=0.0,
                structure=structure,
            )
            for i, structure in enumerate(structures)
        ],
    )


def test_targets_are_sound_unique_unknown_and_near_the_hull():
    given = {"a": CSCL, "b": WURTZITE, "c": ZINCBLENDE, "d": LEAD_OXIDE, "e": CSCL, "f": ROCKSALT}
    results = [
        relaxed(CSCL, 0.15),
        relaxed(WURTZITE, 0.2),
        relaxed(LEAD_OXIDE, 0.3),
        relaxed(CSCL, 0.1),
        None,
    ]
    found = rediscovery_targets(given, ENERGIES, FixedRelaxations(results), training=[ZINCBLENDE])
    assert [(target.label, target.formula) for target in found.targets] == [
        ("e", "MgO"),
        ("b", "MgO"),
    ]
    assert found.skipped == {NOT_SOUND: 1, OUTSIDE: 1, TRAINING: 1, DUPLICATE: 1}
    assert RediscoveryTargets.model_validate_json(found.model_dump_json()).n_given == 6


@pytest.mark.parametrize("known", [ROCKSALT, CSCL])
def test_a_training_structure_as_given_or_relaxed_is_no_target(known):
    results = [] if known is ROCKSALT else [relaxed(CSCL, 0.1)]
    with pytest.raises(UserError, match=TRAINING):
        rediscovery_targets({"a": ROCKSALT}, ENERGIES, FixedRelaxations(results), training=[known])


def test_an_impossible_cell_is_skipped_before_it_is_compared():
    flat = Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]), ["Mg", "O"], CSCL.frac_coords)
    results = FixedRelaxations([relaxed(CSCL, 0.1)])
    found = rediscovery_targets({"a": flat, "b": CSCL}, ENERGIES, results, training=[ROCKSALT])
    assert ([one.label for one in found.targets], found.skipped) == (["b"], {NOT_SOUND: 1})


def test_matches_across_cell_sizes_before_and_after_relaxation():
    manganosite = rocksalt("Mn", 4.45)
    targets = targets_of(CSCL, WURTZITE, manganosite)
    doubled = CSCL.make_supercell([2, 1, 1], in_place=False).scale_lattice(50)
    found = rediscovery([doubled, ZINCBLENDE], targets, relaxed=[WURTZITE, doubled])
    assert (found.as_generated.k, found.as_generated.n) == (1, 3)
    assert (found.relaxed.k, found.relaxed.n) == (2, 3)
    assert (found.found_as_generated, found.found_relaxed) == ((0,), (0, 1))
    assert (found.sampled_relaxed.k, found.sampled_relaxed.n) == (2, 2)
    by_formula = {
        row.formula: (row.n_samples, row.relaxed.k, row.relaxed.n) for row in found.formulas
    }
    assert by_formula == {"MgO": (2, 2, 2), "MnO": (0, 0, 1)}
    low, high = found.relaxed.interval
    assert low < 2 / 3 < high


def test_published_share_is_only_that_of_v_o():
    assert rediscovery([], targets_of(CSCL)).published is None
    vanadium = rocksalt("V", 4.1)
    assert rediscovery([], targets_of(vanadium)).published == PUBLISHED_REDISCOVERY


def test_unseen_rows_of_the_published_array_are_found_by_themselves():
    shared = os.environ.get("GAN_HTVS_SHARED")
    path = Path(shared or ".") / "data" / "mg_mn_o_arrays.npz"
    if not shared or not path.exists():
        pytest.skip("the published array is not there; set GAN_HTVS_SHARED")
    rows = [
        row.structure
        for row in read_array(path, MG_MN_O)
        if row.label is not None and not isinstance(row.structure, str | ValueError)
    ][:20]
    found = rediscovery(rows, targets_of(*rows))
    assert found.relaxed is None
    assert found.as_generated.k == found.as_generated.n == 20
