"""Relaxation of one structure with an interatomic potential, step by step."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from ase import optimize, units
from ase.filters import FrechetCellFilter
from ase.optimize.cellawarebfgs import CellAwareBFGS
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.core.candidate import (
    Curve,
    Ending,
    RelaxationResult,
    RelaxedStructure,
    Symmetrization,
    volume_change,
)
from gan_htvs.core.errors import CalculationError
from gan_htvs.potentials.calculators import calculator_of
from gan_htvs.potentials.corrections import energy_correction
from gan_htvs.potentials.springs import spring_hessian
from gan_htvs.structures.geometry_limits import CHEMISTRY, GeometryLimits
from gan_htvs.structures.symmetry import symmetrized_copies
from gan_htvs.structures.validity import check_geometry, unphysical_change

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from ase.optimize.optimize import Optimizer
    from numpy.typing import ArrayLike, NDArray

    from gan_htvs.potentials.relaxation_settings import PotentialSettings

    Result = TypeVar("Result")
    Steps = Generator[None, Calculator | Exception | None, Result]

GEOMETRY_STEPS = 5
"""Optimizer steps between two checks of the geometry."""

SOFTEST = 2.0
"""Minimum stiffness of each atom, added to its springs, eV/A^2."""
SOFTEST_CELL = 8 * units.GPa
"""Minimum stiffness of the cell: a bulk modulus, eV/A^3."""
LONGEST_STEP = 0.2
"""Largest displacement of an atom, and of strain times length, in one step, A."""

COPY_STEPS = 5
"""Largest number of steps in which a symmetrized copy must reach the energy of its original."""
COPY_EXCESS = 0.002
"""Largest energy of a symmetrized copy above its original before its relaxation, eV/atom. In 111
relaxations to 0.1 eV/A, no copy above 0.001 eV/atom reached the energy of its original."""
ENERGY_NOISE = 1e-5
"""Differences of energies up to this are numerical noise, eV/atom."""


class Work(NamedTuple):
    """Arguments of :func:`relax` for one structure.

    Attributes
    ----------
    structure
        Initial structure.
    settings
        Potential, optimizer and convergence.
    stop
        Called after every step; it returns a reason to stop the relaxation, or None.
    audited
        Record the step at which ``stop`` returns a reason, and continue.
    is_reference
        Whether the structure is a reference phase: the limits for generated structures do not
        apply, but an unphysical change ends the relaxation.
    geometry
        Limits for generated structures.
    """

    structure: Structure
    settings: PotentialSettings
    stop: Callable[[Curve], str | None] | None = None
    audited: bool = False
    is_reference: bool = False
    geometry: GeometryLimits = CHEMISTRY


def relax(
    structure: Structure,
    settings: PotentialSettings,
    stop: Callable[[Curve], str | None] | None = None,
    audited: bool = False,
    is_reference: bool = False,
    geometry: GeometryLimits = CHEMISTRY,
) -> RelaxationResult:
    """Relax positions and cell in this process; :class:`Work` describes the arguments.

    The convergence criterion is that of atomate2's relaxer: forces on atoms and cell, in the frame
    of ASE's ``FrechetCellFilter``, below ``fmax`` within ``max_steps``. Then symmetrized copies are
    relaxed for up to :data:`COPY_STEPS` steps, and the first one that is converged and not higher
    in energy, except for :data:`ENERGY_NOISE`, replaces the relaxed structure.
    """
    calculator = calculator_of(settings.name, **settings.arguments)
    stepwise = StepwiseRelaxation(Work(structure, settings, stop, audited, is_reference, geometry))
    with denormals_flushed():
        while stepwise.relaxation is None:
            stepwise.advance(calculator)
    return stepwise.relaxation


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Round denormal numbers to zero, because they slow processors down.

    CHGNet's decaying basis functions have many of them; without, it takes a third less time, and no
    digit of ten energies and forces changed. The setting applies to the whole process.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class _State(NamedTuple):
    """A computed structure: energy without corrections, eV/atom, and moments, Bohr magnetons."""

    structure: Structure
    energy_per_atom: float
    magmoms: list[float] | None


class StepwiseRelaxation:
    """A relaxation in progress, independent of how the forces are computed.

    Parameters
    ----------
    work
        Structure and settings.
    clock
        Returns the processor time of this relaxation, s, with any origin.

    Attributes
    ----------
    atoms
        Current structure.
    relaxation
        The result; None while the relaxation is in progress.
    """

    atoms: Atoms
    relaxation: RelaxationResult | None = None

    def __init__(self, work: Work, clock: Callable[[], float] = time.process_time) -> None:
        self.work = work
        self.flaw_in = (
            partial(unphysical_change, work.structure)
            if work.is_reference
            else partial(check_geometry, limits=work.geometry)
        )
        self.clock = clock
        self.curve = Curve()
        self.would_stop_at: int | None = None
        self.began = clock()
        self._steps = self._run()
        self.advance(None)

    def advance(self, outcome: Calculator | Exception | None) -> None:
        """Take a step with a calculator of the current structure, or end with an error.

        An exception of the calculator ends the relaxation, too. None is the start, without a step.
        """
        try:
            self._steps.send(outcome)
        except StopIteration as end:
            self.relaxation = end.value

    def _run(self) -> Steps[RelaxationResult]:
        start, settings = self.work.structure, self.work.settings
        try:
            # The correction depends only on the composition, except for peroxides.
            offset = energy_correction(start, 0.0, settings.name)
            self.atoms = AseAtomsAdaptor.get_atoms(start, msonable=False)
            optimizer = _optimizer(self.atoms, settings)
            ending, reason = yield from self._walk(optimizer, offset)
            final = self._state()
        # Potentials may raise anything, for example if a cell explodes; other structures go on.
        except Exception as error:  # noqa: BLE001
            text = str(error).splitlines() or [type(error).__name__]
            return self._ended(Ending.RAISED, f"{Ending.RAISED}: {text[0]}")
        symmetrization = None
        if ending is Ending.CONVERGED:
            final, symmetrization = yield from self._symmetrize(final, offset)
        try:
            correction = energy_correction(final.structure, final.energy_per_atom, settings.name)
        except CalculationError as error:
            return self._ended(Ending.RAISED, str(error))
        relaxed = RelaxedStructure(
            structure=final.structure,
            energy_per_atom=final.energy_per_atom + correction,
            correction_per_atom=correction,
            level_of_theory=settings.level_of_theory,
            converged=ending is Ending.CONVERGED,
            magmoms=final.magmoms,
            n_steps=len(self.curve.energies) - 1,
            cpu_seconds=self.clock() - self.began,
            volume_change=volume_change(start, final.structure),
            symmetrization=symmetrization,
        )
        return self._ended(ending, reason, relaxed)

    def _state(self) -> _State:
        """Return structure, energy and moments of the last step."""
        atoms = self.atoms
        energy_per_atom = float(atoms.get_potential_energy()) / len(atoms)
        has_moments = "magmoms" in atoms.calc.implemented_properties
        magmoms = atoms.get_magnetic_moments().tolist() if has_moments else None
        _check_finite(energy_per_atom, atoms.positions, magmoms or [])
        return _State(_structure(atoms), energy_per_atom, magmoms)

    def _symmetrize(
        self, relaxed: _State, offset: float
    ) -> Steps[tuple[_State, Symmetrization | None]]:
        """Replace a relaxed structure by its most symmetric copy that is not higher in energy.

        The curve is continued by that of the copy.
        """
        tolerances = self.work.settings.symmetry_tolerances
        for copy in symmetrized_copies(relaxed.structure, tolerances):
            self.atoms = AseAtomsAdaptor.get_atoms(copy.structure, msonable=False)
            curve = Curve()
            try:
                is_as_low = yield from self._walk_copy(
                    curve, relaxed.energy_per_atom + offset, offset
                )
                state = self._state()
            # The relaxed structure remains.
            except Exception:  # noqa: BLE001, S112
                continue
            if is_as_low and self.flaw_in(state.structure) is None:
                self.curve = _joined(self.curve, curve)
                return state, Symmetrization(
                    tolerance=copy.tolerance,
                    max_displacement=copy.max_displacement,
                    n_steps=len(curve.energies) - 1,
                    energy_change=state.energy_per_atom - relaxed.energy_per_atom,
                )
        return relaxed, None

    def _ended(
        self, ending: Ending, reason: str | None, relaxed: RelaxedStructure | None = None
    ) -> RelaxationResult:
        return RelaxationResult(
            ending=ending,
            reason=reason,
            relaxed=relaxed,
            curve=self.curve,
            would_stop_at=self.would_stop_at,
            cpu_seconds=self.clock() - self.began,
        )

    def _walk(self, optimizer: Optimizer, offset: float) -> Steps[tuple[Ending, str | None]]:
        """Follow ASE's ``irun``, but receive the calculator of each step from the caller."""
        atoms, curve = self.atoms, self.curve
        optimizer.fmax = self.work.settings.fmax
        while True:
            outcome = yield
            self._add_energy(curve, outcome, offset)
            step = optimizer.nsteps
            flaw = self.flaw_in(_structure(atoms)) if step % GEOMETRY_STEPS == 0 else None
            if flaw is not None:
                return Ending.UNSOUND, f"after {step} steps: {flaw}"
            # Check the initial energy before forces are computed.
            if step == 0 and (reason := self._reason_to_stop()) is not None:
                return Ending.STOPPED, reason
            is_converged = _add_force(curve, optimizer)
            if is_converged:
                break
            if step > 0 and (reason := self._reason_to_stop()) is not None:
                return Ending.STOPPED, reason
            if step >= self.work.settings.max_steps:
                break
            optimizer.step()
            optimizer.nsteps += 1
        if (flaw := self.flaw_in(_structure(atoms))) is not None:
            return Ending.UNSOUND, f"after relaxation: {flaw}"
        if is_converged:
            return Ending.CONVERGED, None
        return Ending.OUT_OF_STEPS, f"relaxation not converged after {optimizer.nsteps} steps"

    def _walk_copy(self, curve: Curve, limit: float, offset: float) -> Steps[bool]:
        """Relax a symmetrized copy; return whether it converged to an energy up to a limit."""
        optimizer = _optimizer(self.atoms, self.work.settings)
        optimizer.fmax = self.work.settings.fmax
        while True:
            outcome = yield
            self._add_energy(curve, outcome, offset)
            if optimizer.nsteps == 0 and curve.energies[0] > limit + COPY_EXCESS:
                return False
            if _add_force(curve, optimizer) and curve.energies[-1] <= limit + ENERGY_NOISE:
                return True
            if optimizer.nsteps >= COPY_STEPS:
                return False
            optimizer.step()
            optimizer.nsteps += 1

    def _add_energy(
        self, curve: Curve, outcome: Calculator | Exception | None, offset: float
    ) -> None:
        """Compute the energy of the current structure with a calculator, and add it to a curve."""
        if isinstance(outcome, Exception):
            raise outcome
        atoms = self.atoms
        atoms.calc = outcome
        energy = float(atoms.get_potential_energy())
        _check_finite(energy, atoms.positions, atoms.cell.array)
        curve.energies.append(energy / len(atoms) + offset)
        curve.volumes.append(float(atoms.cell.volume) / len(atoms))

    def _reason_to_stop(self) -> str | None:
        """Return a reason to stop; an audited relaxation records the step and continues."""
        if self.work.stop is None or self.would_stop_at is not None:
            return None
        reason = self.work.stop(self.curve)
        if reason is not None:
            self.would_stop_at = len(self.curve.energies) - 1
        return None if self.work.audited else reason


def _add_force(curve: Curve, optimizer: Optimizer) -> bool:
    """Add the largest force to a curve; return whether it is below the limit."""
    is_converged = bool(optimizer.converged())
    max_force = float(_force_norms(optimizer.atoms).max())
    _check_finite(max_force)
    curve.max_forces.append(max_force)
    return is_converged


def _joined(first: Curve, second: Curve) -> Curve:
    return Curve(
        energies=first.energies + second.energies,
        max_forces=first.max_forces + second.max_forces,
        volumes=first.volumes + second.volumes,
    )


def _check_finite(*values: ArrayLike) -> None:
    """Raise an ArithmeticError if any number is NaN or infinite."""
    if not all(np.isfinite(value).all() for value in values):
        raise ArithmeticError("energy, forces, moments or positions are not finite")


def _structure(atoms: Atoms) -> Structure:
    return Structure(
        atoms.cell.array,
        atoms.get_chemical_symbols(),
        atoms.positions,
        coords_are_cartesian=True,
        to_unit_cell=True,
    )


class _CellFilter(FrechetCellFilter):
    """ASE's filter with cached forces and strain."""

    _forces: NDArray[np.float64] | None = None
    _positions: NDArray[np.float64] | None = None

    def set_positions(self, new: NDArray[np.float64], **settings: Any) -> None:
        self._forces, self._positions = None, new.copy()
        super().set_positions(new, **settings)
        strain = new[-3:] / self.exp_cell_factor - math.log(self.cell_factor) * np.eye(3)
        # The strain is known; scipy's logm would take milliseconds to compute it again.
        self._utility.logm = lambda _: strain

    def get_positions(self) -> NDArray[np.float64]:
        if self._positions is None:
            with warnings.catch_warnings():
                # Warns for a multiple of the identity if its error exceeds 2e-13.
                warnings.filterwarnings("ignore", message="logm result may be inaccurate")
                self._positions = super().get_positions()
        return self._positions.copy()

    def get_forces(self, **settings: Any) -> NDArray[np.float64]:
        if self._forces is None:
            self._forces = super().get_forces(**settings)
        return self._forces.copy()


class _CellAware(CellAwareBFGS):
    """ASE's quasi-Newton optimizer with an initial Hessian of springs between neighbors."""

    def initialize(self) -> None:
        super().initialize()
        self.H0 += spring_hessian(self.atoms.atoms)

    def gradient_converged(self, gradient: NDArray[np.float64]) -> bool:  # noqa: ARG002
        return bool(_force_norms(self.atoms).max() < self.fmax)


def _force_norms(cell_filter: FrechetCellFilter) -> NDArray[np.float64]:
    """Return force norms, (n + 3,), eV/A; those on the cell have ASE's default weight."""
    norms = np.linalg.norm(cell_filter.get_forces(), axis=1)
    norms[-3:] *= cell_filter.exp_cell_factor / len(cell_filter.atoms)
    return norms


def _optimizer(atoms: Atoms, settings: PotentialSettings) -> Optimizer:
    if settings.optimizer == "CellAwareBFGS":
        return _CellAware(
            _CellFilter(atoms, exp_cell_factor=1.0),
            logfile=None,
            bulk_modulus=SOFTEST_CELL,
            alpha=SOFTEST,
            maxstep=LONGEST_STEP,
        )
    return getattr(optimize, settings.optimizer)(_CellFilter(atoms), logfile=None)
