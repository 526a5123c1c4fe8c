from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from gan_htvs.core.candidate import (
    Curve,
    Ending,
    PrescreenVerdict,
    Proposal,
    RelaxationResult,
    Screened,
)
from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ScreeningStep
from gan_htvs.potentials.relaxation import RelaxationCache
from gan_htvs.potentials.relaxation_settings import PotentialSettings
from gan_htvs.prescreen.agreement import Agreement
from gan_htvs.prescreen.screening import Prescreen, duplicates_of_lowest, select
from gan_htvs.prescreen.stopping import Look, StoppingRule
from gan_htvs.structures.geometry_limits import GeometryLimits
from tests.helpers import (
    CHGNET,
    MG_O,
    cesium_chloride,
    proposal,
    references,
    relaxed,
    require_potential,
    rocksalt,
)

RULES = Prescreen(
    relaxing=PotentialSettings(name="chgnet", max_steps=60),
    confirming=None,
    references=references(),
    confirming_references=None,
    audit=0.0,
)


def clash() -> Structure:
    return Structure(
        Lattice.cubic(4), ["Mg", "Mg", "O", "O"], [[0, 0, 0], [0.02, 0, 0], [0.5] * 3, [0, 0, 0.5]]
    )


def skewed() -> Structure:
    """Build a structure that matches rocksalt only after its relaxation."""
    return Structure(
        Lattice.from_parameters(2.9, 2.9, 3.9, 75, 75, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )


def proposals(**structures: Structure):
    return [
        proposal(name, structure, index=index)
        for index, (name, structure) in enumerate(structures.items())
    ]


def screen(rules: Prescreen, batch: list[Proposal], cache: RelaxationCache | None = None):
    return rules.run(batch, cache).proposals


def steps(screened: list[Proposal]) -> dict[str, ScreeningStep | None]:
    """Return the step that rejected each structure, by id."""
    return {proposal.candidate_id: proposal.prescreen.rejected_at for proposal in screened}


class ChangedCache(RelaxationCache):
    """Cache that counts relaxations, and changes the first results that it stores."""

    def __init__(self, *changes):
        super().__init__()
        self.changes, self.n_relaxations = list(changes), 0

    def add(self, key, result):
        self.n_relaxations += 1
        if self.changes:
            change = self.changes.pop(0)
            changed = result.relaxed.model_copy(update=change(result.relaxed))
            result = result.model_copy(update={"relaxed": changed})
        super().add(key, result)


def raise_energy(relaxed):
    return {"energy_per_atom": relaxed.energy_per_atom + 0.05}


def test_steps_of_rejected_structures():
    nan = Structure(rocksalt().lattice, ["Mg", "O"], [[math.nan, 0, 0], [0.5, 0.5, 0.5]])
    flat = Structure(
        Lattice.from_parameters(4, 4, 4, 60, 60, 119.9), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )
    batch = proposals(
        clash=clash(),
        nan=nan,
        flat=flat,
        good=rocksalt(),
        duplicate=rocksalt(length=4.2) * (2, 1, 1),
        high=cesium_chloride(),
    )
    screened = screen(RULES, batch)
    assert [proposal.candidate_id for proposal in screened] == [item.candidate_id for item in batch]
    assert steps(screened) == {
        "clash": ScreeningStep.VALIDITY,
        "nan": ScreeningStep.VALIDITY,
        "flat": ScreeningStep.VALIDITY,
        "good": None,
        "duplicate": ScreeningStep.DUPLICATE,
        "high": ScreeningStep.WINDOW,
    }
    verdicts = {proposal.candidate_id: proposal.prescreen for proposal in screened}
    relaxations = {proposal.candidate_id: proposal.relaxation for proposal in screened}
    assert "atoms_too_close" in verdicts["clash"].reason
    assert "not_finite" in verdicts["nan"].reason
    assert verdicts["duplicate"].duplicate_of == "good"
    assert relaxations["duplicate"] is None
    assert relaxations["good"].ending is Ending.CONVERGED
    assert {verdict.level_of_theory for verdict in verdicts.values()} == {CHGNET}
    assert verdicts["good"].decomposition_energy == pytest.approx(0, abs=0.02)
    assert verdicts["good"].n_steps == relaxations["good"].relaxed.n_steps > 0
    assert -0.1 < verdicts["good"].volume_change < 0
    assert verdicts["high"].decomposition_energy > 0.2


def test_limits_of_the_settings():
    strict = replace(RULES, geometry=GeometryLimits(min_distances={"Mg-O": 2.2}))
    (screened,) = screen(strict, proposals(good=rocksalt(length=4.25)))
    assert screened.prescreen.rejected_at is ScreeningStep.VALIDITY
    assert "Mg-O 2.12 A is below 2.2 A" in screened.prescreen.reason
    # The starting structure is valid, but the relaxed one is not.
    (screened,) = screen(strict, proposals(good=rocksalt(length=4.5)))
    assert screened.prescreen.rejected_at is ScreeningStep.GEOMETRY
    assert screened.relaxation.ending is Ending.UNSOUND


def test_lowest_energy_of_the_settings():
    # The energy of MgO is 0.2 eV/atom below its reference.
    high = references(CHGNET, MG_O | {"MgO": MG_O["MgO"] + 0.2})
    rules = replace(RULES, references=high)
    (screened,) = screen(rules, proposals(a=rocksalt()))
    above = screened.prescreen.decomposition_energy
    assert screened.prescreen.rejected_at is ScreeningStep.WINDOW
    assert "< -0.1 eV/atom (references.lowest_decomposition_energy)" in screened.prescreen.reason
    believing = replace(rules, lowest_decomposition_energy=above - 0.01)
    (screened,) = screen(believing, proposals(a=rocksalt()))
    assert screened.survives


def test_empty_batch_has_no_results():
    assert screen(RULES, []) == []


def test_references_of_another_level_are_a_user_error():
    with pytest.raises(UserError, match="CHGNet"):
        replace(RULES, references=references("PBE(+U)+MP2020"))
    with pytest.raises(UserError, match="SevenNet"):
        replace(
            RULES,
            confirming=PotentialSettings(name="sevennet-0"),
            confirming_references=references(),
        )


def test_restarted_batch_only_relaxes_missing_structures():
    cache, batch = ChangedCache(), proposals(good=rocksalt(), high=cesium_chloride())
    first = screen(RULES, batch[:1], cache)
    assert cache.n_relaxations == 1
    screened = screen(RULES, batch, cache)
    assert screened[0] == first[0]
    assert cache.n_relaxations == 2
    assert screen(RULES, batch, cache) == screened
    assert cache.n_relaxations == 2


def test_cache_depends_on_settings():
    cache, batch = ChangedCache(), proposals(good=rocksalt())
    screen(RULES, batch, cache)
    stricter = replace(RULES, relaxing=RULES.relaxing.model_copy(update={"fmax": 0.02}))
    (screened,) = screen(stricter, batch, cache)
    assert screened.survives, screened.prescreen.reason
    assert cache.n_relaxations == 2


def test_structure_that_relaxes_to_the_same_crystal_is_a_duplicate():
    screened = screen(RULES, proposals(first=rocksalt(), later=skewed()))
    assert steps(screened) == {"first": None, "later": ScreeningStep.RELAXED_DUPLICATE}
    assert screened[1].prescreen.duplicate_of == "first"
    assert screened[1].relaxation.relaxed.converged


def test_rejected_structures_have_no_duplicates():
    cache = ChangedCache(lambda relaxed: {"volume_change": 1.5})
    batch = proposals(broken=skewed(), good=rocksalt())
    screen(RULES, batch, cache)
    screened = screen(RULES, batch, cache)
    assert steps(screened) == {"broken": ScreeningStep.GEOMETRY, "good": None}


def test_lower_duplicate_is_kept():
    cache, batch = ChangedCache(raise_energy), proposals(high=rocksalt(), low=skewed())
    screen(RULES, batch, cache)
    screened = screen(RULES, batch, cache)
    assert steps(screened) == {"high": ScreeningStep.RELAXED_DUPLICATE, "low": None}
    assert screened[0].prescreen.duplicate_of == "low"


def test_first_duplicate_is_kept_unless_another_is_clearly_lower():
    crystals = {
        "first": relaxed(rocksalt(), -6.300),
        "other crystal": relaxed(cesium_chloride(), -5.7),
        "slightly lower": relaxed(rocksalt(length=4.25), -6.309),
        "higher": relaxed(rocksalt() * (1, 1, 2), -6.2),
    }
    assert duplicates_of_lowest(crystals) == {"slightly lower": "first", "higher": "first"}
    crystals["lowest"] = relaxed(rocksalt(length=4.2), -6.32)
    assert duplicates_of_lowest(crystals) == {
        "first": "lowest",
        "slightly lower": "lowest",
        "higher": "lowest",
    }
    assert duplicates_of_lowest({}) == {}


def screened(name: str, structure: Structure, above: float, **verdict) -> Proposal:
    screened = proposal(name, structure)
    screened.prescreen = PrescreenVerdict(decomposition_energy=above, **verdict)
    screened.relaxation = RelaxationResult(
        ending=Ending.CONVERGED,
        relaxed=relaxed(structure, energy_per_atom=-6.32 + above),
        curve=Curve(energies=[-6.0]),
    )
    return screened


def survivor_ids(selection: Screened) -> list[str]:
    return [survivor.candidate_id for survivor in selection.survivors]


def test_selection_is_sorted_and_has_no_duplicates():
    proposals = [
        screened("high", cesium_chloride(), 0.15),
        screened("rocksalt", rocksalt(), 0.05),
        screened("duplicate", rocksalt(length=4.25), 0.045),
        screened("zinc oxide", rocksalt("Zn"), 0.1),
    ]
    selection = select(proposals)
    assert survivor_ids(selection) == ["rocksalt", "zinc oxide", "high"]
    survivor = selection.survivors[0]
    assert survivor.relaxation.relaxed == proposals[1].relaxation.relaxed
    assert survivor.relaxation.curve == Curve()
    assert survivor.prescreen == proposals[1].prescreen
    (rejected,) = [proposal for proposal in selection.proposals if not proposal.survives]
    assert rejected.candidate_id == "duplicate"
    assert rejected.prescreen.rejected_at is ScreeningStep.RELAXED_DUPLICATE
    assert rejected.prescreen.duplicate_of == "rocksalt"
    assert rejected.prescreen.decomposition_energy == 0.045


def test_lower_duplicate_of_two_batches_is_selected():
    selection = select([screened("high", rocksalt(), 0.05), screened("low", rocksalt(), 0.0)])
    assert survivor_ids(selection) == ["low"]
    duplicates = {
        proposal.candidate_id: proposal.prescreen.duplicate_of for proposal in selection.proposals
    }
    assert duplicates == {"low": None, "high": "low"}


def test_survivor_of_an_earlier_round_is_kept():
    first, second = screened("first", rocksalt(), 0.05), screened("second", rocksalt(), 0.0)
    first.origin.round, second.origin.round = 1, 2
    assert survivor_ids(select([first, second])) == ["first"]
    second.origin.round = 1
    assert survivor_ids(select([first, second])) == ["second"]


def test_rejected_structures_are_not_selected():
    rejected = screened(
        "rejected", rocksalt(), 0.0, rejected_at=ScreeningStep.CONFIRMATION, reason="no"
    )
    selection = select([rejected, screened("kept", rocksalt(), 0.1)])
    assert [proposal.candidate_id for proposal in selection.proposals] == ["kept"]


def test_equal_energies_are_sorted_by_id():
    batch = [screened("b", cesium_chloride(), 0.1002), screened("a", rocksalt(), 0.1004)]
    assert survivor_ids(select(batch)) == ["a", "b"]


def strict_rule() -> StoppingRule:
    """Build a rule that stops every relaxation above the window after five steps."""
    look = Look(step=5, before=0, gain=0.0, margins=(0.0,), n_relaxations=20)
    return StoppingRule(
        level_of_theory=CHGNET,
        optimizer="CellAwareBFGS",
        fmax=0.1,
        quantiles=(1.0,),
        looks=(look,),
        curves={"0.2": ()},
        n_relaxations=20,
    )


def rattled_cesium_chloride() -> Structure:
    cell = cesium_chloride() * (2, 1, 1)
    moves = np.random.default_rng(1).normal(0, 0.12, (4, 3))
    return Structure(
        cell.lattice, cell.species, cell.cart_coords + moves, coords_are_cartesian=True
    )


@pytest.mark.parametrize("audit", [0.0, 1.0])
def test_early_stopping_and_audit(audit):
    rules = replace(RULES, window=0.001, audit=audit)
    rules.rule, rules.quantile = strict_rule(), 1.0
    (screened,) = screen(rules, proposals(a=rattled_cesium_chloride()))
    verdict = screened.prescreen
    assert verdict.is_audited is bool(audit)
    assert verdict.would_stop_at == 5
    if audit:
        assert verdict.n_steps > 5
        assert verdict.rejected_at is not ScreeningStep.STOPPING
    else:
        assert verdict.n_steps == 5
        assert verdict.rejected_at is ScreeningStep.STOPPING
        assert "stopped after 5 steps" in verdict.reason
    curve = screened.relaxation.curve
    assert len(curve.energies) == len(curve.volumes) == verdict.n_steps + 1


def test_audit_depends_on_the_id():
    rules = replace(RULES, audit=0.25)
    names = [f"candidate {i}" for i in range(2000)]
    audited = [name for name in names if rules.is_audited(name)]
    assert 400 < len(audited) < 600
    assert audited == [name for name in names if rules.is_audited(name)]


class Fragile(LennardJones):
    """Calculator that raises for Ca and returns infinite forces for Ba."""

    def calculate(self, atoms, *arguments, **settings):
        if "Ca" in atoms.get_chemical_symbols():
            raise RuntimeError("no parameters for Ca\ntraceback")
        super().calculate(atoms, *arguments, **settings)
        if "Ba" in atoms.get_chemical_symbols():
            self.results["forces"] = np.full((len(atoms), 3), np.nan)


def test_error_of_a_potential_only_affects_one_structure(monkeypatch):
    monkeypatch.setattr(
        "gan_htvs.potentials.relaxer.calculator_of",
        lambda name: Fragile(sigma=2.0, epsilon=0.05, rc=5),
    )
    phases = references(energies=MG_O | {"Ca": -1.9, "Ba": -1.9})
    rules = replace(RULES, references=phases, window=100.0, symmetry_tolerance=0)
    batch = proposals(calcium=rocksalt("Ca"), barium=rocksalt("Ba"), good=rocksalt())
    screened = screen(rules, batch)
    assert steps(screened)["calcium"] is ScreeningStep.RELAXATION
    assert screened[0].prescreen.reason.endswith("no parameters for Ca")
    assert steps(screened)["barium"] is ScreeningStep.RELAXATION
    assert steps(screened)["good"] is not ScreeningStep.RELAXATION


def with_confirmation(**energies: float) -> Prescreen:
    return replace(
        RULES,
        confirming=PotentialSettings(name="sevennet-0", max_steps=20),
        confirming_references=references("SevenNet-0+MP2020", MG_O | energies),
    )


def test_confirmation_by_a_second_potential():
    require_potential("sevennet-0")
    # With this energy of Mg, both potentials have the same formation energy of MgO.
    (screened,) = screen(with_confirmation(Mg=-1.54), proposals(a=rocksalt()))
    verdict = screened.prescreen
    assert screened.survives
    confirmation = verdict.confirmation
    assert confirmation.level_of_theory == "SevenNet-0+MP2020"
    assert confirmation.decomposition_energy == pytest.approx(0, abs=0.05)
    assert confirmation.disagreement == pytest.approx(
        confirmation.decomposition_energy - verdict.decomposition_energy
    )
    (screened,) = screen(with_confirmation(Mg=-1.54, MgO=-6.7), proposals(a=rocksalt()))
    verdict = screened.prescreen
    assert verdict.rejected_at is ScreeningStep.CONFIRMATION
    assert "SevenNet-0+MP2020" in verdict.reason
    assert verdict.confirmation.disagreement > 0.1
    assert verdict.decomposition_energy == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("energies", "reason"),
    [
        ([-0.95], "agrees"),
        ([-0.75], None),  # 0.05 too high
        ([-1.15], "is too low, and decreases"),
        ([-0.7, -0.72, -0.74, -0.76, -0.78], None),
        ([-0.7, -0.72, -0.74, -0.76, -0.78, -0.79], None),  # 0.01 too high
        ([-0.7, -0.7, -0.701, -0.701, -0.701, -0.702], "decreases too slowly"),
        ([-0.7, -0.72, -0.74, -0.76, -0.78, -0.81], "agrees"),
    ],
)
def test_stopping_of_the_second_potential(energies, reason):
    agreement = Agreement(hull=-1.0, window=0.2, first=0.1, disagreement=0.2, max_steps=20)
    assert agreement(Curve(energies=energies)) == reason
