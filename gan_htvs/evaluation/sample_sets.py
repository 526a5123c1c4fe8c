"""Sets of structures to evaluate: samples of a proposer, or structures of any other origin."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING

from ase import Atoms
from pymatgen.core import Structure

from gan_htvs.core.errors import UserError
from gan_htvs.evaluation.evaluation_documents import Draw
from gan_htvs.proposers.gan import GanProposer
from gan_htvs.proposers.sampling import composition_rng, sample
from gan_htvs.structures.declash import declash
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.symmetry import without_properties
from gan_htvs.structures.validity import RejectionReason, check_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from gan_htvs.core.chemical_system import Counts, OxidationRanges
    from gan_htvs.proposers.proposer import Proposer, RawSample
    from gan_htvs.proposers.sampling import SampleResult


@dataclass(frozen=True)
class GeneratedStructure:
    """A structure to evaluate.

    Attributes
    ----------
    structure
        The structure, after overlap removal if there was one.
    composition
        Cell formula; of a proposer, the requested one.
    index
        Number of the raw sample within its composition, or position in the list.
    label
        File or name of the structure; None for samples of a proposer.
    max_displacement
        Largest displacement of an atom by overlap removal, A.
    flaw
        Why the geometry is not valid; None for a valid structure.
    """

    structure: Structure
    composition: str
    index: int
    label: str | None = None
    max_displacement: float = 0.0
    flaw: RejectionReason | None = None


@dataclass(frozen=True)
class SampleSet:
    """Structures of one source, and the counts of its raw samples.

    Attributes
    ----------
    name
        Proposer, file or folder.
    samples
        Structures to evaluate.
    draws
        Counts of raw samples, one for each composition.
    geometry
        Limits of the source.
    seed, n_samples
        Random seed, and structures requested for each composition; None for given structures.
    """

    name: str
    samples: Sequence[GeneratedStructure]
    draws: Sequence[Draw]
    geometry: GeometryLimits = CHEMISTRY
    seed: int | None = None
    n_samples: int | None = None

    @property
    def structures(self) -> list[Structure]:
        """The structures in order."""
        return [one.structure for one in self.samples]

    @property
    def elements(self) -> list[str]:
        """Symbols of all elements of the compositions, in alphabetical order."""
        cells = [draw.cell for draw in self.draws]
        return sorted({element.symbol for cell in cells for element in cell.elements})

    @classmethod
    def of(
        cls,
        structures: Iterable[Structure | Atoms],
        *,
        labels: Sequence[str] = (),
        name: str = "structures",
        geometry: GeometryLimits = CHEMISTRY,
        removes_overlaps: bool = False,
    ) -> Self:
        """Collect given structures, all of which are evaluated.

        Unlike samples of a proposer, invalid structures and duplicates are kept: they count in the
        denominators of all shares.

        Parameters
        ----------
        structures
            Structures of pymatgen or ASE.
        labels
            Files or names of the structures; empty: they have none.
        name
            Name of the source.
        geometry
            Limits of volumes and distances; by default those of the elements.
        removes_overlaps
            Whether overlapping atoms are separated first, as in samples of the proposers.

        Raises
        ------
        UserError
            If there is no structure, or one is not a structure, disordered, empty or not periodic.
        """
        given = [_crystal(value, f"{name}: structure {i}") for i, value in enumerate(structures, 1)]
        if not given:
            raise UserError(f"{name}: there is no structure; give at least one.")
        flaws = [_flaw(structure, geometry) for structure in given]
        before, displacements = flaws, [0.0] * len(given)
        if removes_overlaps:
            result = declash(given, geometry)
            given, displacements = list(result.structures), result.max_displacement.tolist()
            flaws = [_flaw(structure, geometry) for structure in given]
        reasons: dict[str, list[RejectionReason | None]] = defaultdict(list)
        samples = []
        names: Sequence[str | None] = labels or [None] * len(given)
        rows = zip(given, names, before, displacements, flaws, strict=True)
        for index, (structure, label, reason, displacement, flaw) in enumerate(rows):
            formula = cell_formula(structure)
            reasons[formula].append(reason)
            samples.append(GeneratedStructure(structure, formula, index, label, displacement, flaw))
        draws = [
            Draw(
                composition=formula,
                requested=len(found),
                tried=len(found),
                decoded=len(found),
                exhausted=True,
                before_declash=_counts_by_reason(filter(None, found)),
            )
            for formula, found in reasons.items()
        ]
        return cls(name, samples, draws, geometry)


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Number of samples of a proposer, and limits.

    Parameters
    ----------
    n_samples
        Valid, unique structures requested for each composition.
    seed
        Determines all samples.
    max_tries_per_structure
        Limit on raw samples per requested structure.
    """

    n_samples: int = 100
    seed: int = 0
    max_tries_per_structure: int = 200


def draw_samples(
    proposer: Proposer,
    compositions: Sequence[Counts],
    *,
    oxidation_states: OxidationRanges,
    settings: SampleSettings = SampleSettings(),
    on_progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> SampleSet:
    """Sample a proposer, and count its raw samples.

    The samples of a composition depend only on the seed, the proposer and the composition. A run
    with other compositions, or an interrupted run, has the same samples.

    Parameters
    ----------
    proposer
        Source of the samples.
    compositions
        Atoms per cell of each element, one entry for each composition.
    oxidation_states
        Range of each element, for charge balance.
    settings
        Number of samples, seed and limits.
    on_progress
        Called with the step, the number done and the total.

    Raises
    ------
    UserError
        If there is no composition, or an impossible one.
    """
    if not compositions:
        raise UserError("compositions: the list is empty; name at least one composition.")
    compositions = list(dict.fromkeys(compositions))
    draws: list[Draw] = []
    samples: list[GeneratedStructure] = []
    for done, counts in enumerate(compositions):
        on_progress(f"{proposer.name}: sampling", done, len(compositions))
        raw: list[RawSample] = []
        result = sample(
            proposer,
            counts,
            settings.n_samples,
            seed=settings.seed,
            max_tries_per_structure=settings.max_tries_per_structure,
            oxidation_states=oxidation_states,
            on_raw=raw.append,
        )
        formula = proposer.system.formula(counts)
        samples += [
            GeneratedStructure(
                one.structure, formula, one.index, max_displacement=one.max_displacement
            )
            for one in result.samples
        ]
        decoded = islice(_decoded_counts(proposer, counts, settings.seed), result.tried)
        crystals = [item for item in raw if isinstance(item, Structure)]
        flaws = (_flaw(crystal, proposer.geometry) for crystal in crystals)
        draws.append(
            Draw(
                composition=formula,
                requested=settings.n_samples,
                tried=result.tried,
                exhausted=result.exhausted,
                read=_n_read(proposer, result),
                balanced=sum(
                    min(atoms) > 0 and proposer.system.is_charge_balanced(atoms, oxidation_states)
                    for atoms in decoded
                ),
                decoded=len(crystals),
                before_declash=_counts_by_reason(filter(None, flaws)),
                rejections=_counts_by_reason(result.reasons.elements()),
            )
        )
    on_progress(f"{proposer.name}: sampling", len(compositions), len(compositions))
    return SampleSet(
        str(proposer.name), samples, draws, proposer.geometry, settings.seed, settings.n_samples
    )


def cell_formula(structure: Structure) -> str:
    """Return the cell formula, not reduced, with the elements in alphabetical order."""
    amounts = structure.composition.get_el_amt_dict()
    return "".join(f"{symbol}{int(n) if n > 1 else ''}" for symbol, n in sorted(amounts.items()))


def _crystal(given: Structure | Atoms, what: str) -> Structure:
    """Return an ordered structure without site properties."""
    if isinstance(given, Structure):
        structure = given
    elif not isinstance(given, Atoms):
        raise UserError(f"{what}: is {type(given).__name__}; give structures of pymatgen or ASE.")
    else:
        if not all(given.pbc) or given.cell.rank < len(given.pbc):
            raise UserError(f"{what}: is not periodic in three dimensions; give a crystal.")
        structure = Structure(
            given.cell.array,
            given.get_chemical_symbols(),
            given.positions,
            coords_are_cartesian=True,
        )
    if not len(structure) or not structure.is_ordered:
        problem = "has partly occupied sites" if len(structure) else "has no atoms"
        raise UserError(f"{what}: {problem}; give an ordered crystal or remove it.")
    return without_properties(structure)


def _flaw(structure: Structure, geometry: GeometryLimits) -> RejectionReason | None:
    flaw = check_geometry(structure, geometry)
    return None if flaw is None else flaw.reason


def _decoded_counts(proposer: Proposer, counts: Counts, seed: int) -> Iterator[Counts]:
    """Yield the atom counts of all raw samples, including those without a valid crystal.

    A generator can decode other counts than requested; its samples are generated again.
    """
    rng = composition_rng(seed, counts)
    while isinstance(proposer, GanProposer):
        cells, _ = proposer.read_batch(counts, rng)
        yield from (tuple(row) for row in cells.counts.tolist())
    yield from repeat(counts)


def _n_read(proposer: Proposer, result: SampleResult) -> int | None:
    """Count the raw samples with the composition in the classifier; None without a classifier."""
    if not isinstance(proposer, GanProposer) or proposer.trained.classifier is None:
        return None
    return result.tried - result.reasons[RejectionReason.WRONG_COMPOSITION]


def _counts_by_reason(reasons: Iterable[RejectionReason]) -> dict[str, int]:
    return {str(reason): n for reason, n in sorted(Counter(reasons).items())}
