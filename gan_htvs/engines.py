"""Sections of campaign.yaml that say which code computes which property, and how."""

from __future__ import annotations

from functools import partial
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from gan_htvs.errors import UserError
from gan_htvs.potentials import SHIPPED, known_potential
from gan_htvs.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Settings,
)

REHEARSAL = "rehearsal"
"""Name of the engine that runs the flows of VASP with a stand-in for VASP."""

VASP_ENGINES = frozenset({"vasp", REHEARSAL})

PotentialName = Annotated[str, AfterValidator(known_potential)]
EnergyEngineName = Annotated[
    str, AfterValidator(partial(known_potential, besides=("vasp", REHEARSAL)))
]

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

REFERENCE_STEPS = 1000
"""Least bound on the steps in which a known phase must converge."""


class PotentialSettings(Settings):
    """How an interatomic potential relaxes."""

    name: str
    # Left out when empty: the names of jobs without them, which are hashes, do not depend on it.
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        exclude_if=not_,
        description="keyword arguments of the ASE calculator of a potential that has atomate2's "
        "name, such as {model: /path/to/model}",
    )
    fmax: PositiveFloat = Field(0.1, description="largest force when converged, eV/A")
    max_steps: PositiveInt = Field(500, description="longer relaxations count as failed")
    optimizer: str

    @model_validator(mode="after")
    def _arguments_are_of_a_potential_without_a_model(self) -> Self:
        if self.arguments and self.name in SHIPPED:
            raise ValueError(
                f"arguments: {self.name!r} takes none, its model is part of its name; leave them "
                "out"
            )
        return self

    @property
    def for_references(self) -> Self:
        """The same with more patience, for known phases.

        There is no hull without them, they are few, and how many steps one takes depends on the
        processor.
        """
        return self.model_copy(update={"max_steps": max(self.max_steps, REFERENCE_STEPS)})


class EnergyEngineSettings(PotentialSettings):
    """What relaxes structures and gives their energies, through atomate2's Makers."""

    name: EnergyEngineName = Field(
        "chgnet",
        description="an interatomic potential, for which the other settings here are: 'chgnet', "
        "'sevennet-0', 'sevennet-l3i5' or atomate2's name of another; 'vasp': see `engines.vasp`; "
        "'rehearsal': the same with a stand-in for VASP, whose numbers are no results",
    )
    optimizer: Literal["FIRE", "LBFGS", "BFGS"] = Field(
        "FIRE", description="ASE optimizer; LBFGS can jump into holes of a potential"
    )


class DescentSettings(PotentialSettings):
    """How the prescreen relaxes, structure by structure."""

    name: PotentialName
    max_steps: PositiveInt = Field(200, description="longer relaxations count as failed")
    optimizer: Literal["CellAwareBFGS", "FIRE", "LBFGS", "BFGS"] = Field(
        "CellAwareBFGS", description="ASE optimizer"
    )


class BandGapEngineSettings(Settings):
    """The code that computes band gaps."""

    name: Literal["gpaw", "vasp", "rehearsal", "none"] = Field(
        "gpaw",
        description="'gpaw', for which the other settings here are; 'vasp': see "
        "`engines.vasp.hybrid`; 'rehearsal': the same with a stand-in for VASP; 'none': no gaps, "
        "no photoanodes",
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
        description="wall-time limit of one gap, s; what it stopped is computed by the next run",
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
        *("ISPIN", "LNONCOLLINEAR", "LSORBIT", "MAGMOM", "NELECT", "NUPDOWN"),
    }
)
"""INCAR tags that would make another level of theory, or another magnetic order."""

PARALLEL_TAGS = frozenset({"KPAR", "LPLANE", "LSCALAPACK", "NCORE", "NPAR", "NSIM"})
"""INCAR tags that say how a calculation is spread over a machine, and nothing of its result."""


def level_of_theory_stays(incar: dict[str, Any]) -> dict[str, Any]:
    """Refuse INCAR tags that would make another level of theory, with a ValueError."""
    if ours := sorted(LEVEL_TAGS & {str(tag).strip().upper() for tag in incar}):
        raise ValueError(
            f"{', '.join(ours)} would make another level of theory than its label says, or another "
            "magnetic order; leave it out"
        )
    return incar


Incar = Annotated[dict[str, Any], AfterValidator(level_of_theory_stays)]
Share = Annotated[float, Field(ge=0, le=1)]

FailureName = Literal[
    "unconverged",
    "electronic",
    "killed",
    "truncated",
    "missing",
    "zbrent",
    "brmix",
    "hang",
    "zombie",
]
"""The ways to fail of :class:`gan_htvs.rehearsal.failures.FailureMode`."""


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
    failures: dict[FailureName, Share] = Field(
        default_factory=dict,
        description="of rehearsals: share of the calculations that fail in each way, see "
        "docs/rehearsal.md",
    )

    @property
    def content(self) -> dict[str, Any]:
        """What decides the result of a calculation, by setting.

        How many magnetic orders there are, how patient we are, and on how many cores it runs does
        not.
        """
        content = self.model_dump(
            mode="json",
            exclude={"max_afm", "max_errors", "max_seconds", "frozen_seconds", "failures"},
        )
        for section in (content, content["hybrid"]):
            section["incar"] = {
                tag: value
                for tag, value in section["incar"].items()
                if tag.upper() not in PARALLEL_TAGS
            }
        return content


class EngineSettings(Settings):
    """Which code computes which property."""

    energy: EnergyEngineSettings = EnergyEngineSettings()
    band_gap: BandGapEngineSettings = BandGapEngineSettings()
    vasp: VaspSettings = VaspSettings()

    @model_validator(mode="after")
    def _nothing_is_mixed_with_a_rehearsal(self) -> EngineSettings:
        names = {self.energy.name, self.band_gap.name} - {"none"}
        if REHEARSAL in names and len(names) > 1:
            raise ValueError(
                "a rehearsal gives no results, and nothing computed may stand beside it: let both "
                "energy.name and band_gap.name be 'rehearsal', or band_gap.name 'none'"
            )
        pre_relaxation = self.vasp.pre_relaxation
        if (
            self.energy.arguments
            and self.energy.name in VASP_ENGINES
            and pre_relaxation in {None, *SHIPPED}
        ):
            raise ValueError(
                "energy.arguments are for a potential that has atomate2's name, and "
                f"vasp.pre_relaxation is {pre_relaxation!r}; leave them out"
            )
        if sum(self.vasp.failures.values()) > 1:
            raise ValueError("vasp.failures: the shares add up to more than 1")
        if self.vasp.failures and not self.is_rehearsal:
            raise ValueError("vasp.failures are for rehearsals: real ones come by themselves")
        return self

    @property
    def is_rehearsal(self) -> bool:
        """Whether a stand-in takes the place of VASP, so that no number is a result."""
        return self.energy.name == REHEARSAL

    @property
    def potential(self) -> EnergyEngineSettings:
        """Settings of the interatomic potential that relaxes, before VASP or instead of it.

        Raises
        ------
        UserError
            If VASP relaxes and no potential does so before it.
        """
        if self.energy.name not in VASP_ENGINES:
            return self.energy
        if self.vasp.pre_relaxation is None:
            raise UserError(
                f"engines.energy.name: {self.energy.name!r} runs as jobs, and this needs an "
                "interatomic potential: name one as engines.vasp.pre_relaxation."
            )
        return self.energy.model_copy(update={"name": self.vasp.pre_relaxation})
