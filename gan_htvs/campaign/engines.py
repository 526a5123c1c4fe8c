"""Sections of campaign.yaml that say which code computes which property, and how."""

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
    """What relaxes structures and gives their energies, through atomate2's Makers."""

    name: EnergyEngineName = Field(
        "chgnet",
        description="an interatomic potential, for which the other settings here are: 'chgnet', "
        "'sevennet-0', 'sevennet-l3i5' or atomate2's name of another; 'vasp': see `engines.vasp`",
    )


class BandGapEngineSettings(Settings):
    """The code that computes band gaps."""

    name: Literal["gpaw", "vasp", "none"] = Field(
        "gpaw",
        description="'gpaw', for which the other settings here are; 'vasp': see "
        "`engines.vasp.hybrid`; 'none': no gaps, no photoanodes",
    )
    max_atoms: PositiveInt = Field(30, description="larger cells get no gap, with that reason")
    cutoff: PositiveFloat = Field(400, description="plane-wave cutoff, eV")
    kpoint_length: PositiveFloat = Field(
        10,
        description="shortest period that the k-point mesh stands for, A: k-point number times "
        "lattice vector length in a box",
    )
    max_seconds: PositiveFloat = Field(
        3600,
        description="wall-time limit of one gap, s; the next run computes what was stopped",
    )
    hubbard_u: dict[str, NonNegativeFloat] = Field(
        default_factory=lambda: dict(MATERIALS_PROJECT_U),
        description="U on the d shell in oxides, eV; Materials Project values",
    )
    magnetic_orders: tuple[Literal["FM", "AFM"], ...] = Field(
        ("FM", "AFM"),
        min_length=1,
        description="orders that a magnetic structure starts from; the lowest PBE(+U) energy gets "
        "the gap",
    )
    mpi_command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="what runs GPAW in parallel, such as [mpiexec, -n, '4']; null: one process",
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
"""INCAR tags that would make another level of theory, or another magnetic order."""

STEP_TAGS = frozenset({"IBRION", "ISIF", "NSW"})
"""INCAR tags that make a relaxation or a static calculation of a step; each step has its own."""

PARALLEL_TAGS = frozenset({"KPAR", "LPLANE", "LSCALAPACK", "NCORE", "NPAR", "NSIM"})
"""INCAR tags that say how a calculation is spread over a machine, and nothing of its result."""


def check_level_of_theory(incar: dict[str, Any]) -> dict[str, Any]:
    """Refuse INCAR tags that would make another level of theory, with a ValueError."""
    if ours := sorted(LEVEL_TAGS & {str(tag).strip().upper() for tag in incar}):
        raise ValueError(
            f"{', '.join(ours)} would make another level of theory than its label says, or another "
            "magnetic order; leave it out"
        )
    return incar


Incar = Annotated[dict[str, Any], AfterValidator(check_level_of_theory)]


class HybridSettings(Settings):
    """HSE06 of VASP, for band gaps."""

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
    max_atoms: PositiveInt = Field(60, description="larger cells get no gap, with that reason")
    incar: Incar = Field(
        default_factory=dict, description="INCAR tags that differ from atomate2's HSE06 sets"
    )


class Powerup(Settings):
    """One of atomate2's powerups, for every VASP job."""

    name: Literal[
        "update_user_incar_settings", "update_user_kpoints_settings", "use_auto_ispin"
    ] = Field(description="function in atomate2.vasp.powerups")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="its keyword arguments, `name_filter` among them"
    )

    @model_validator(mode="after")
    def _arguments_are_plain(self) -> Powerup:
        if "class_filter" in self.arguments:
            raise ValueError("a class_filter cannot be written here; use name_filter")
        return self


class VaspSettings(Settings):
    """How VASP is run, through atomate2 and custodian, where an engine is named vasp."""

    pre_relaxation: PotentialName | None = Field(
        None,
        description="interatomic potential that relaxes a structure first, with the settings of "
        "`engines.energy`; null: VASP relaxes what was generated",
    )
    orderings: Literal["couplings", "enumlib"] = Field(
        "couplings",
        description="where antiferromagnetic orders come from: 'couplings': ranked by "
        "superexchange paths, see docs/magnetism.md; 'enumlib': pymatgen's "
        "MagneticStructureEnumerator, needs enum.x and makestr.x",
    )
    max_afm: NonNegativeInt = Field(
        1,
        le=20,
        description="antiferromagnetic orders that a magnetic structure starts from, besides the "
        "ferromagnetic one; the lowest energy wins",
    )
    potcar_functional: Literal["PBE", "PBE_52", "PBE_54", "PBE_64"] = Field(
        "PBE",
        description="pymatgen's name of the POTCARs; 'PBE' is what the Materials Project and its "
        "corrections are made with",
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
        5, description="errors of a calculation, corrected or not, after which it has failed"
    )
    max_seconds: PositiveInt | None = Field(
        None,
        description="wall time after which custodian asks a calculation to stop, s; null: no limit",
    )
    frozen_seconds: PositiveInt = Field(
        21_600, description="silence after which custodian takes VASP for hung, s"
    )
    polling_seconds: PositiveFloat = Field(
        10.0, description="interval at which custodian checks whether a calculation has ended, s"
    )


class EngineSettings(Settings):
    """Which code computes which property."""

    energy: EnergyEngineSettings = EnergyEngineSettings()
    band_gap: BandGapEngineSettings = BandGapEngineSettings()
    vasp: VaspSettings = VaspSettings()

    @model_validator(mode="after")
    def _arguments_are_of_a_named_potential(self) -> EngineSettings:
        pre_relaxation = self.vasp.pre_relaxation
        has_model = pre_relaxation in {None, *SHIPPED}
        if self.energy.arguments and self.energy.name == "vasp" and has_model:
            raise ValueError(
                "energy.arguments are for a potential that has atomate2's name, and "
                f"vasp.pre_relaxation is {pre_relaxation!r}; leave them out"
            )
        return self

    @property
    def potential(self) -> PotentialSettings:
        """Settings of the interatomic potential that relaxes, before VASP or instead of it.

        Raises
        ------
        UserError
            If VASP relaxes and no potential does so before it.
        """
        by_vasp = self.energy.name == "vasp"
        name = self.vasp.pre_relaxation if by_vasp else self.energy.name
        if name is None:
            raise UserError(
                f"engines.energy.name: {self.energy.name!r} runs as jobs, and this needs an "
                "interatomic potential: name one as engines.vasp.pre_relaxation."
            )
        return PotentialSettings(**self.energy.model_dump() | {"name": name})
