from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from gan_htvs.candidate import Hurdle, Origin, Proposal
from gan_htvs.descent import Curve
from gan_htvs.engines import DescentSettings
from gan_htvs.prescreen.agreement import Agreement
from gan_htvs.prescreen.notes import NotebookInMemory
from gan_htvs.prescreen.pack import Prescreen
from gan_htvs.prescreen.stopping import Look, StoppingRule
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet

CHGNET = "CHGNet-0.3.0"
ENERGIES = {"Mg": -1.606, "O2": -4.948, "MgO": -6.32}
"""Of CHGNet, eV/atom."""


def references(level: str = CHGNET, **energies: float) -> ReferenceSet:
    return ReferenceSet(
        entries=tuple(
            ReferenceEnergy(name=name, formula=name, energy_per_atom=energy, level_of_theory=level)
            for name, energy in (ENERGIES | energies).items()
        )
    )


RULES = Prescreen(
    owner="search",
    relaxing=DescentSettings(name="chgnet", max_steps=60),
    confirming=None,
    references=references(),
    confirming_references=None,
    audit=0.0,
)


def rocksalt(length: float = 4.3) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(length), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def cesium_chloride() -> Structure:
    """About 0.6 eV/atom above rocksalt, and kept there by its symmetry."""
    return Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def clash() -> Structure:
    return Structure(
        Lattice.cubic(4), ["Mg", "Mg", "O", "O"], [[0, 0, 0], [0.02, 0, 0], [0.5] * 3, [0, 0, 0.5]]
    )


def proposals(**structures: Structure) -> list[Proposal]:
    return [
        Proposal(
            candidate_id=name,
            structure=structure,
            origin=Origin(proposer="random", requested_composition="MgO", index=i),
        )
        for i, (name, structure) in enumerate(structures.items())
    ]


def hurdles(verdicts) -> dict[str, Hurdle | None]:
    return {verdict.candidate_id: verdict.hurdle for verdict in verdicts}


def test_each_leaves_with_its_hurdle_and_none_disturbs_the_others():
    nan = Structure(rocksalt().lattice, ["Mg", "O"], [[math.nan, 0, 0], [0.5, 0.5, 0.5]])
    flat = Structure(
        Lattice.from_parameters(4, 4, 4, 60, 60, 119.9), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )
    pack = proposals(
        clash=clash(),
        nan=nan,
        flat=flat,
        good=rocksalt(),
        again=rocksalt(4.2) * (2, 1, 1),
        high=cesium_chloride(),
    )
    verdicts = RULES.run(pack, NotebookInMemory())
    assert [verdict.candidate_id for verdict in verdicts] == [p.candidate_id for p in pack]
    assert hurdles(verdicts) == {
        "clash": Hurdle.VALIDITY,
        "nan": Hurdle.VALIDITY,
        "flat": Hurdle.VALIDITY,
        "good": None,
        "again": Hurdle.DUPLICATE,
        "high": Hurdle.WINDOW,
    }
    found = {verdict.candidate_id: verdict for verdict in verdicts}
    assert "atoms_too_close" in found["clash"].reason
    assert "not_finite" in found["nan"].reason
    assert found["again"].duplicate_of == "good"
    assert found["again"].descent is None, "no crystal is relaxed twice"
    assert found["good"].energy_above_hull == pytest.approx(0, abs=0.02)
    assert found["good"].n_steps > 0
    assert -0.1 < found["good"].volume_change < 0
    assert found["high"].energy_above_hull > 0.2


def test_a_pack_that_was_killed_relaxes_only_what_is_missing(monkeypatch):
    notes, pack = NotebookInMemory(), proposals(good=rocksalt(), high=cesium_chloride())
    first = RULES.run(pack[:1], notes)
    relaxed = []
    import gan_htvs.prescreen.pack as module

    original = module.relax_one
    monkeypatch.setattr(module, "relax_one", lambda *work: relaxed.append(work) or original(*work))
    verdicts = RULES.run(pack, notes)
    assert verdicts[0] == first[0]
    assert len(relaxed) == 1
    assert RULES.run(pack, notes) == verdicts
    assert len(relaxed) == 1


def test_what_another_pack_claimed_or_relaxed_is_a_duplicate_here():
    notes = NotebookInMemory()
    notes.claim({"theirs": rocksalt(4.25)})
    (verdict,) = RULES.run(proposals(ours=rocksalt()), notes)
    assert (verdict.hurdle, verdict.duplicate_of) == (Hurdle.DUPLICATE, "theirs")


def skewed() -> Structure:
    """So far from rocksalt that only the relaxation shows that it is one."""
    return Structure(
        Lattice.from_parameters(2.9, 2.9, 3.9, 75, 75, 60), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )


def test_of_two_packs_that_relax_to_one_crystal_one_keeps_it_whoever_looks_last():
    notes = NotebookInMemory()
    theirs, ours = proposals(theirs=rocksalt()), proposals(ours=skewed())
    RULES.run(theirs, notes)
    (verdict,) = RULES.run(ours, notes)
    assert (verdict.hurdle, verdict.duplicate_of) == (Hurdle.RELAXED_DUPLICATE, "theirs")
    # Theirs was killed before it was done, or is slower: it sees both.
    (verdict,) = RULES.run(theirs, notes)
    assert verdict.survives


def test_no_duplicate_of_what_left():
    notes = NotebookInMemory()
    RULES.run(proposals(theirs=skewed()), notes)
    (uuid, (name, descent)) = next(iter(notes.noted.items()))
    apart = descent.relaxed.model_copy(update={"volume_change": 1.5})
    notes.noted[uuid] = (name, descent.model_copy(update={"relaxed": apart}))
    (verdict,) = RULES.run(proposals(ours=rocksalt()), notes)
    assert verdict.survives


def test_a_lengthened_shard_finds_no_duplicates_of_its_own_past():
    notes = NotebookInMemory()
    pack = proposals(good=rocksalt(), again=rocksalt(4.25), skewed=skewed(), new=cesium_chloride())
    shorter = hurdles(RULES.run(pack[:3], notes))
    assert [name for name, hurdle in shorter.items() if hurdle is None] == ["good"]
    # All but the survivor have their verdicts.
    assert hurdles(RULES.run([pack[0], pack[3]], notes)) == {"good": None, "new": Hurdle.WINDOW}


def test_what_is_relaxed_again_with_other_settings_is_no_duplicate_of_itself():
    notes = NotebookInMemory()
    RULES.run(proposals(good=rocksalt()), notes)
    closer = replace(RULES, relaxing=RULES.relaxing.model_copy(update={"fmax": 0.02}))
    (verdict,) = closer.run(proposals(good=rocksalt()), notes)
    assert verdict.hurdle is None, verdict.reason


def test_of_one_pack_the_lower_find_stays():
    notes, pack = NotebookInMemory(), proposals(high=rocksalt(), low=skewed())
    RULES.run(pack, notes)
    uuid, (name, descent) = next(iter(notes.noted.items()))
    high = descent.relaxed.model_copy(
        update={"energy_per_atom": descent.relaxed.energy_per_atom + 0.05}
    )
    notes.noted[uuid] = (name, descent.model_copy(update={"relaxed": high}))
    assert hurdles(RULES.run(pack, notes)) == {"high": Hurdle.RELAXED_DUPLICATE, "low": None}


def test_a_lower_find_of_a_known_crystal_goes_on():
    notes = NotebookInMemory()
    RULES.run(proposals(theirs=rocksalt()), notes)
    notes.claims.clear()
    uuid, (name, descent) = next(iter(notes.noted.items()))
    high = descent.relaxed.model_copy(
        update={"energy_per_atom": descent.relaxed.energy_per_atom + 0.05}
    )
    notes.noted[uuid] = (name, descent.model_copy(update={"relaxed": high}))
    (verdict,) = RULES.run(proposals(ours=rocksalt(4.2)), notes)
    assert verdict.survives


def stops_at_once() -> StoppingRule:
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


def test_the_hopeless_are_stopped_and_the_audited_go_on():
    rules = replace(RULES, rule=stops_at_once(), quantile=1.0, window=0.001)
    (stopped,) = rules.run(proposals(a=rattled_cesium_chloride()), NotebookInMemory())
    assert stopped.hurdle is Hurdle.STOPPING
    assert stopped.n_steps == stopped.would_stop_at == 5
    assert "stopped after 5 steps" in stopped.reason
    notes = NotebookInMemory()
    (audited,) = replace(rules, audit=1.0).run(proposals(a=rattled_cesium_chloride()), notes)
    assert audited.is_audited
    assert audited.would_stop_at == 5
    assert audited.n_steps > 5
    assert audited.hurdle is not Hurdle.STOPPING
    curve = notes.descents([audited.descent])[audited.descent].curve
    assert len(curve.energies) == len(curve.volumes) == audited.n_steps + 1


def test_the_share_that_is_audited_is_drawn_from_the_name():
    rules = replace(RULES, audit=0.25)
    names = [f"candidate {i}" for i in range(2000)]
    drawn = [name for name in names if rules.is_audited(name)]
    assert 400 < len(drawn) < 600
    assert drawn == [name for name in names if rules.is_audited(name)]


class Fragile(LennardJones):
    """Raises where there is calcium, explodes where there is barium."""

    def calculate(self, atoms, *arguments, **settings):
        if "Ca" in atoms.get_chemical_symbols():
            raise RuntimeError("no parameters for Ca\nand a long story")
        super().calculate(atoms, *arguments, **settings)
        if "Ba" in atoms.get_chemical_symbols():
            self.results["forces"] = np.full((len(atoms), 3), np.nan)


def test_a_potential_that_raises_costs_one_structure(monkeypatch):
    monkeypatch.setattr(
        "gan_htvs.descent.calculator_of", lambda name: Fragile(sigma=2.0, epsilon=0.05, rc=5)
    )
    rules = replace(
        RULES, references=references(Ca=-1.9, Ba=-1.9), window=100.0, symmetry_tolerance=0
    )
    pack = proposals(
        raises=rocksalt().replace_species({"Mg": "Ca"}, in_place=False),
        explodes=rocksalt().replace_species({"Mg": "Ba"}, in_place=False),
        good=rocksalt(),
    )
    verdicts = rules.run(pack, NotebookInMemory())
    assert hurdles(verdicts)["raises"] is Hurdle.RELAXATION
    assert verdicts[0].reason == "the potential raised: no parameters for Ca"
    assert hurdles(verdicts)["explodes"] is Hurdle.RELAXATION
    assert verdicts[2].hurdle is not Hurdle.RELAXATION


def confirmed(**energies: float) -> Prescreen:
    return replace(
        RULES,
        confirming=DescentSettings(name="sevennet-0", max_steps=20),
        confirming_references=references("SevenNet-0+MP2020", **energies),
    )


def test_a_second_potential_confirms_or_contradicts():
    pytest.importorskip("sevenn")
    # SevenNet-0 with corrections: MgO -6.32, Mg -1.5, as its formation energy is CHGNet's.
    (verdict,) = confirmed(Mg=-1.54).run(proposals(a=rocksalt()), NotebookInMemory())
    assert verdict.survives
    confirmation = verdict.confirmation
    assert confirmation.level_of_theory == "SevenNet-0+MP2020"
    assert confirmation.energy_above_hull == pytest.approx(0, abs=0.05)
    assert confirmation.disagreement == pytest.approx(
        confirmation.energy_above_hull - verdict.energy_above_hull
    )
    (verdict,) = confirmed(Mg=-1.54, MgO=-6.7).run(proposals(a=rocksalt()), NotebookInMemory())
    assert verdict.hurdle is Hurdle.CONFIRMATION
    assert "SevenNet-0+MP2020: the potentials disagree by +0." in verdict.reason
    assert verdict.confirmation.disagreement > 0.1
    assert verdict.energy_above_hull == pytest.approx(0, abs=0.02), "both are kept"


@pytest.mark.parametrize(
    ("energies", "told"),
    [
        ([-0.95], "agrees"),
        ([-0.75], None),  # 0.05 too high, and may fall
        ([-1.15], "is too low, and falls"),
        ([-0.7, -0.72, -0.74, -0.76, -0.78], None),
        ([-0.7, -0.72, -0.74, -0.76, -0.78, -0.79], None),  # 0.01 is missing of 0.27
        ([-0.7, -0.7, -0.701, -0.701, -0.701, -0.702], "falls too slowly"),
        ([-0.7, -0.72, -0.74, -0.76, -0.78, -0.81], "agrees"),
    ],
)
def test_a_second_potential_is_asked_no_longer_than_it_may_agree(energies, told):
    agreement = Agreement(hull=-1.0, window=0.2, first=0.1, disagreement=0.2, max_steps=20)
    assert agreement(Curve(energies=energies)) == told
