"""Settings of the engines: the codes that compute energies and band gaps."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from gan_htvs.core.errors import UserError
from gan_htvs.core.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from gan_htvs.potentials.calculators import SHIPPED, known_potential
from gan_htvs.potentials.relaxation_settings import PotentialName, PotentialSettings

EnergyEngineName = Annotated[str, AfterValidator(partial(known_potential, besides=("vasp",)))]

MATERIALS_PROJECT_U = {
    "Co": 3.32,
    "Cr": 3.7,
    "Fe": 5.3,
    "Mn": 3.9,
    "Mo": 4.38,
    "Ni": 6.2,
    "V": 3.25,
    "W": 6.2,
}
"""U of the Materials Project for oxides, eV (Jain et al., Phys. Rev. B 84, 045115 (2011))."""


class EnergyEngineSettings(PotentialSettings):
    """Engine that relaxes structures and computes energies, through atomate2 Makers."""

    name: EnergyEngineName = Field(
        "chgnet",
        description="'chgnet', 'sevennet-0', 'sevennet-l3i5' or another interatomic potential by "
        "its name in atomate2, with the other settings of this section; 'vasp': see `engines.vasp`",
    )


class BandGapEngineSettings(Settings):
    """Engine that computes band gaps."""

    name: Literal["gpaw", "vasp", "none"] = Field(
        "gpaw",
        description="'gpaw', with the other settings of this section; 'vasp': see "
        "`engines.vasp.hybrid`; 'none': no gaps, no stage that needs one passes",
    )
    max_atoms: PositiveInt = Field(
        30,
        description="largest number of atoms per cell; larger cells are skipped, and the reason is "
        "stored",
    )
    cutoff: PositiveFloat = Field(400, description="plane-wave cutoff, eV")
    kpoint_length: PositiveFloat = Field(
        10,
        description="period of the k-point mesh, A: number of k points times lattice vector "
        "length in an orthorhombic cell",
    )
    max_scf_iterations: PositiveInt = Field(
        420,
        description="largest number of SCF iterations of one magnetic ordering; without one of its "
        "orderings a gap is incomplete",
    )
    max_hybrid_evaluations: PositiveInt = Field(
        2000,
        description="largest number of eigenvalues with exact exchange, each of one band at one k "
        "point and spin; a gap that needs more is not computed",
    )
    max_seconds: PositiveFloat = Field(
        3600,
        description="wall time after which the calculation of a gap is killed, s; the gap is then "
        "not computed, and the next run repeats it",
    )
    accept_incomplete: bool = Field(
        default=False,
        description="whether incomplete gaps pass filters and stages; they are marked in any case",
    )
    hubbard_u: dict[str, NonNegativeFloat] = Field(
        default_factory=lambda: dict(MATERIALS_PROJECT_U),
        description="U on the d shell in oxides, eV; Materials Project values",
    )
    magnetic_orders: tuple[Literal["FM", "AFM"], ...] = Field(
        ("FM", "AFM"),
        min_length=1,
        description="magnetic orderings to converge; the one of lowest PBE(+U) energy gets the gap",
    )
    mpi_command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="command for parallel GPAW, such as [mpiexec, -n, '4']; null: one process",
    )


LEVEL_TAGS = frozenset(
    {
        *("AEXX", "ENCUT", "GGA", "HFSCREEN", "IVDW", "LHFCALC", "METAGGA"),
        *("AGGAC", "AGGAX", "ALDAC", "ALDAX", "LIBXC1", "LIBXC2", "LMODELHF", "LUSE_VDW", "XC"),
        *("LDAU", "LDAUJ", "LDAUL", "LDAUTYPE", "LDAUU"),
        *("EFIELD", "EFIELD_PEAD", "LASPH", "LSOL", "PSTRESS"),
        *("ISPIN", "LNONCOLLINEAR", "LSORBIT", "MAGMOM", "NELECT", "NUPDOWN"),
    }
)
"""INCAR tags that would change the level of theory or the magnetic ordering."""

STEP_TAGS = frozenset({"IBRION", "ISIF", "NSW"})
"""INCAR tags that define a step as relaxation or static calculation; set by each step."""

PARALLEL_TAGS = frozenset({"KPAR", "LPLANE", "LSCALAPACK", "NCORE", "NPAR", "NSIM"})
"""INCAR tags of parallelization, which do not change the result."""


def check_level_of_theory(incar: dict[str, Any]) -> dict[str, Any]:
    """Raise a ValueError for INCAR tags that would change the level of theory; return the tags."""
    if forbidden := sorted(LEVEL_TAGS & {str(tag).strip().upper() for tag in incar}):
        raise ValueError(
            f"{', '.join(forbidden)} would change the level of theory or the magnetic ordering; "
            "remove it"
        )
    return incar


Incar = Annotated[dict[str, Any], AfterValidator(check_level_of_theory)]


class HybridSettings(Settings):
    """HSE06 calculations of VASP for band gaps."""

    mode: Literal["static", "gap", "uniform_dense"] = Field(
        "gap",
        description="k points besides the self-consistent mesh, of weight zero: 'static': none; "
        "'gap': the two at the band edges of PBE(+U); 'uniform_dense': a dense mesh",
    )
    reciprocal_density: PositiveInt = Field(
        64, description="density of the self-consistent mesh, k points per inverse cubic A"
    )
    dense_reciprocal_density: PositiveInt = Field(
        100, description="density of the mesh of 'uniform_dense'"
    )
    cutoff: PositiveFloat = Field(520, description="plane-wave cutoff, eV")
    max_atoms: PositiveInt = Field(
        60,
        description="largest number of atoms per cell; larger cells are skipped, and the reason is "
        "stored",
    )
    incar: Incar = Field(
        default_factory=dict, description="INCAR tags that differ from atomate2's HSE06 sets"
    )


class Powerup(Settings):
    """A powerup of atomate2 that is applied to all VASP jobs."""

    name: Literal[
        "update_user_incar_settings", "update_user_kpoints_settings", "use_auto_ispin"
    ] = Field(description="function of atomate2.vasp.powerups")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="its keyword arguments, such as `name_filter`"
    )

    @model_validator(mode="after")
    def _arguments_are_plain(self) -> Powerup:
        if "class_filter" in self.arguments:
            raise ValueError("class_filter cannot be written in YAML; use name_filter")
        return self


class VaspSettings(Settings):
    """Settings of VASP, which runs through atomate2 and custodian."""

    pre_relaxation: PotentialName | None = Field(
        None,
        description="interatomic potential that relaxes a structure before VASP, with the "
        "settings of `engines.energy`; null: no pre-relaxation",
    )
    orderings: Literal["couplings", "enumlib"] = Field(
        "couplings",
        description="source of antiferromagnetic orderings: 'couplings': ranked by superexchange "
        "paths, see docs/magnetism.md; 'enumlib': pymatgen's MagneticStructureEnumerator, needs "
        "enum.x and makestr.x",
    )
    max_afm: NonNegativeInt = Field(
        1,
        le=20,
        description="number of antiferromagnetic orderings to relax besides the ferromagnetic one; "
        "the ordering of lowest energy is kept",
    )
    potcar_functional: Literal["PBE", "PBE_52", "PBE_54", "PBE_64"] = Field(
        "PBE",
        description="pymatgen's name of the POTCAR family; the Materials Project and its "
        "corrections use 'PBE'",
    )
    incar: Incar = Field(
        default_factory=dict,
        description="INCAR tags of relaxations and static calculations that differ from the "
        "Materials Project's",
    )
    hybrid: HybridSettings = HybridSettings()
    powerups: tuple[Powerup, ...] = Field(
        (), description="atomate2 powerups for all VASP jobs, each {name, arguments}"
    )
    max_errors: PositiveInt = Field(
        5, description="number of errors, also corrected ones, after which a calculation fails"
    )
    max_seconds: PositiveInt | None = Field(
        None,
        description="wall time after which custodian stops a calculation, s; null: no limit",
    )
    frozen_seconds: PositiveInt = Field(
        21_600, description="time without output after which custodian treats VASP as frozen, s"
    )
    polling_seconds: PositiveFloat = Field(
        10.0, description="interval at which custodian checks whether a calculation has ended, s"
    )


class EngineSettings(Settings):
    """Engines of energies and band gaps, and settings of VASP."""

    energy: EnergyEngineSettings = EnergyEngineSettings()
    band_gap: BandGapEngineSettings = BandGapEngineSettings()
    vasp: VaspSettings = VaspSettings()

    @model_validator(mode="after")
    def _arguments_are_of_a_named_potential(self) -> EngineSettings:
        pre_relaxation = self.vasp.pre_relaxation
        has_model = pre_relaxation in {None, *SHIPPED}
        if self.energy.arguments and self.energy.name == "vasp" and has_model:
            raise ValueError(
                "energy.arguments require a potential in atomate2's naming, but "
                f"vasp.pre_relaxation is {pre_relaxation!r}; remove them"
            )
        return self

    @property
    def runs_vasp(self) -> bool:
        """Whether VASP computes energies or band gaps."""
        return "vasp" in (self.energy.name, self.band_gap.name)

    @property
    def potential(self) -> PotentialSettings:
        """Settings of the interatomic potential that relaxes, before or instead of VASP.

        Raises
        ------
        UserError
            If VASP relaxes without pre-relaxation by a potential.
        """
        by_vasp = self.energy.name == "vasp"
        name = self.vasp.pre_relaxation if by_vasp else self.energy.name
        if name is None:
            raise UserError(
                f"engines.energy.name: {self.energy.name!r} is not an interatomic potential; set "
                "engines.vasp.pre_relaxation to one."
            )
        return PotentialSettings(**self.energy.model_dump() | {"name": name})
