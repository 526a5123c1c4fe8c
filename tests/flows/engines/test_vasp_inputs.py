"""Inputs of VASP, compared with pymatgen's input sets of the Materials Project."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from flows.engines.vasp_step import check_moments
from flows.naming import name_by_content
from gan_htvs.campaign.engines import EngineSettings
from gan_htvs.core.errors import CalculationError, UserError
from tests.helpers import PBE_U, relaxed, rocksalt

ENGINES = {"energy": {"name": "vasp"}, "band_gap": {"name": "vasp"}}
MP_KPOINTS = {"force_gamma": True, "auto_metal_kpoints": True, "inherit_incar": False}


def spinel():
    return Structure.from_spacegroup(
        227,
        Lattice.cubic(8.5),
        ["Mg", "Mn", "O"],
        [[1 / 8, 1 / 8, 1 / 8], [1 / 2, 1 / 2, 1 / 2], [0.2625, 0.2625, 0.2625]],
    ).get_primitive_structure()


STRUCTURES = {"MgO": rocksalt("Mg", 4.21), "MnO": rocksalt("Mn", 4.45), "MgMn2O4": spinel()}


def energy_maker(**vasp):
    return VaspEnergyMaker.of(EngineSettings.model_validate(ENGINES | {"vasp": vasp}))


def jobs(structure, **vasp):
    """Return the VASP jobs by their names without the formula."""
    *calculations, _ = energy_maker(**vasp).make(structure).jobs
    return {job.name.rpartition(" ")[0]: job for job in calculations}


def inputs_of(step, structure):
    return step.maker.vasp.input_set_generator.get_input_set(structure, potcar_spec=True)


@pytest.mark.parametrize("formula", STRUCTURES)
@pytest.mark.parametrize(
    ("name", "expected"),
    [("relax 1", MPRelaxSet), ("relax 2", MPRelaxSet), ("static", MPStaticSet)],
)
def test_inputs_equal_those_of_the_materials_project(formula, name, expected):
    structure = STRUCTURES[formula]
    start = "NM" if formula == "MgO" else "FM"
    ours = inputs_of(jobs(structure)[f"{start} {name}"], structure)
    reference = expected(structure, **MP_KPOINTS).get_input_set(potcar_spec=True)
    assert dict(ours.incar) == dict(reference.incar)
    assert ours.kpoints == reference.kpoints
    assert ours.poscar.structure == reference.poscar.structure
    assert ours["POTCAR.spec"] == reference["POTCAR.spec"]


def test_inputs_are_pbe_plus_u_at_520_ev_with_spin():
    structure = STRUCTURES["MnO"]
    inputs = inputs_of(jobs(structure)["FM relax 1"], structure)
    incar = inputs.incar
    assert (incar["ENCUT"], incar["ISPIN"], incar["ISIF"]) == (520, 2, 3)
    assert (incar["LDAU"], incar["LDAUU"], incar["LDAUL"]) == (True, [3.9, 0], [2, 0])
    assert "GGA" not in incar  # PBE, like the POTCARs; atomate2's own sets have PBEsol
    assert incar["MAGMOM"] == [5.0, 0.6]
    assert inputs["POTCAR.spec"].splitlines() == ["Mn_pv", "O"]


class TestMagneticOrders:
    def test_magnetic_oxide_has_fm_and_afm_starts(self):
        names = list(jobs(STRUCTURES["MnO"]))
        assert names == [
            f"{o} {s}" for o in ("FM", "AFM") for s in ("relax 1", "relax 2", "static")
        ]

    def test_nonmagnetic_oxide_has_one_start(self):
        assert list(jobs(STRUCTURES["MgO"])) == ["NM relax 1", "NM relax 2", "NM static"]

    @pytest.mark.parametrize("max_afm", [0, 1, 2])
    def test_max_afm_limits_number_of_starts(self, max_afm):
        starts = {name.split()[0] for name in jobs(STRUCTURES["MgMn2O4"], max_afm=max_afm)}
        assert starts == {"FM", *["AFM", "AFM-2"][:max_afm]}

    def test_antiparallel_moments_reach_incar(self):
        relax = jobs(STRUCTURES["MnO"])["AFM relax 1"]
        structure, moments = relax.function_args
        structure = structure.copy(site_properties={"magmom": moments})
        magmom = inputs_of(relax, structure).incar["MAGMOM"]
        assert sorted(magmom)[:1] + sorted(magmom)[-1:] == [-5, 5]
        assert sum(magmom) == 0

    def test_lost_moments_stop_the_calculation(self):
        relax = jobs(STRUCTURES["MnO"], incar={})["AFM relax 1"]
        structure, moments = relax.function_args
        structure = structure.copy(site_properties={"magmom": moments})
        generator = relax.maker.vasp.input_set_generator
        check_moments(structure, generator)
        generator.user_incar_settings = {"MAGMOM": {"Mn": 5, "O": 0}}
        with pytest.raises(CalculationError, match="MAGMOM"):
            check_moments(structure, generator)

    def test_suppressed_moments_stop_the_calculation(self):
        relax = jobs(STRUCTURES["MnO"])["FM relax 1"]
        structure = relax.function_args[0]
        generator = relax.maker.vasp.input_set_generator
        generator.user_incar_settings = {"LORBIT": 0}
        with pytest.raises(CalculationError, match="LORBIT = 0"):
            check_moments(structure, generator)
        generator.user_incar_settings = {"LORBIT": 0, "ISPIN": 1}
        structure.remove_site_property("magmom")
        check_moments(structure, generator)


class TestChangedSettings:
    def test_incar_tags_of_the_campaign(self):
        changed = jobs(STRUCTURES["MgO"], incar={"NCORE": 4})
        for step in changed.values():
            assert inputs_of(step, STRUCTURES["MgO"]).incar["NCORE"] == 4

    def test_powerups_reach_the_makers(self):
        powerup = {
            "name": "update_user_kpoints_settings",
            "arguments": {
                "kpoints_updates": {"reciprocal_density": 200},
                "name_filter": "static",
            },
        }
        changed = jobs(STRUCTURES["MgO"], powerups=[powerup])
        relax, _, static = (step.maker.vasp.input_set_generator for step in changed.values())
        assert static.user_kpoints_settings == {"reciprocal_density": 200}
        assert not relax.user_kpoints_settings

    def test_powerup_with_unknown_arguments_is_a_user_error(self):
        powerup = {"name": "use_auto_ispin", "arguments": {"really": True}}
        with pytest.raises(UserError, match=r"engines\.vasp\.powerups: use_auto_ispin: .*really"):
            jobs(STRUCTURES["MgO"], powerups=[powerup])

    @pytest.mark.parametrize(
        "changes", [{"GGA": "PS"}, {"LDAU": False}, {"MAGMOM": {"Mn": 1}}, "ENCUT"]
    )
    def test_powerup_cannot_change_the_level_of_theory(self, changes):
        powerup = {
            "name": "update_user_incar_settings",
            "arguments": {"incar_updates": changes},
        }
        with pytest.raises(UserError, match=r"engines\.vasp\.powerups: update_user_incar_settings"):
            jobs(STRUCTURES["MgO"], powerups=[powerup])

    def test_uuids_ignore_limits_and_parallelization(self):
        def uuids(**vasp):
            flow = name_by_content(energy_maker(**vasp).make(STRUCTURES["MgO"]))
            return [job.uuid for job in flow.jobs]

        limits = {"max_errors": 9, "max_seconds": 60, "frozen_seconds": 60, "polling_seconds": 1}
        assert uuids(incar={"KPAR": 4}, **limits) == uuids()
        assert uuids(incar={"EDIFF": 1e-6}) != uuids()

    def test_potcars_of_another_family(self):
        changed = jobs(STRUCTURES["MgO"], potcar_functional="PBE_54")
        for step in changed.values():
            assert step.maker.vasp.input_set_generator.user_potcar_functional == "PBE_54"
        level = energy_maker(potcar_functional="PBE_54").level_of_theory
        assert level == f"{PBE_U} (PBE_54)"


class TestHybrid:
    RELAXED = relaxed(STRUCTURES["MnO"], -8, PBE_U, magmoms=[4.5, 0.1])

    def jobs(self, **hybrid):
        engines = EngineSettings.model_validate(ENGINES | {"vasp": {"hybrid": hybrid}})
        return VaspBandGapMaker.of(engines).make(self.RELAXED).jobs

    def step(self, **hybrid):
        return self.jobs(**hybrid)[0]

    @pytest.mark.parametrize("mode", ["static", "gap", "uniform_dense"])
    def test_is_hse06_without_u(self, mode):
        inputs = inputs_of(self.step(mode=mode), STRUCTURES["MnO"])
        incar = inputs.incar
        assert (incar["LHFCALC"], incar["HFSCREEN"], incar["GGA"]) == (True, 0.2, "Pe")
        assert (incar["LDAU"], incar["NSW"], incar["ISPIN"], incar["ENCUT"]) == (False, 0, 2, 520)
        assert inputs["POTCAR.spec"].splitlines() == ["Mn_pv", "O"]  # those of the energies
        assert incar["EFERMI"].upper() == "MIDGAP"
        assert self.step(mode=mode).maker.vasp.input_set_generator.inherit_incar is False

    def test_fermi_level_can_be_set(self):
        inputs = inputs_of(self.step(incar={"EFERMI": "LEGACY"}), STRUCTURES["MnO"])
        assert inputs.incar["EFERMI"].upper() == "LEGACY"

    def test_density_and_cutoff_can_be_set(self):
        step = self.step(mode="static", reciprocal_density=200, cutoff=400, incar={"NELM": 60})
        inputs = inputs_of(step, STRUCTURES["MnO"])
        coarse = inputs_of(self.step(mode="static"), STRUCTURES["MnO"])
        assert (inputs.incar["ENCUT"], inputs.incar["NELM"]) == (400, 60)
        assert min(inputs.kpoints.kpts[0]) > min(coarse.kpoints.kpts[0])

    def test_dense_mesh_has_zero_weights(self):
        kpoints = inputs_of(self.step(mode="uniform_dense"), STRUCTURES["MnO"]).kpoints
        assert {weight == 0 for weight in kpoints.kpts_weights} == {True, False}
        assert "mode" in self.step(mode="uniform_dense").maker.arguments

    def test_large_cells_are_skipped(self):
        (read_job,) = self.jobs(max_atoms=1)
        assert "engines.vasp.hybrid.max_atoms" in read_job.function_args[0].reason
