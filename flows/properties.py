"""Maker of properties that the user's own code computes."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job, Maker, job

from flows.naming import formula_of
from flows.routing import TOLERANT, mark
from gan_htvs.core.errors import UserError
from gan_htvs.core.properties import PropertyResult, UserProperty
from gan_htvs.core.stages import Step
from gan_htvs.core.text import one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class PropertyMaker(Maker):
    """Compute a property by a function or Maker of the user.

    Parameters
    ----------
    name
        Name of the property and, before the formula, of its jobs.
    settings
        Import path, arguments and unit.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> from pymatgen.core import Lattice, Structure
    >>> from gan_htvs.core.properties import UserProperty
    >>> magnesia = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> settings = UserProperty(path="pymatgen.core.Structure.get_space_group_info")
    >>> PropertyMaker(name="space group", settings=settings).make(magnesia).name
    'space group MgO'
    """

    name: str = "property"
    settings: UserProperty = field(
        default_factory=lambda: UserProperty(path="my_package.my_property")
    )

    def make(self, structure: Structure) -> Job | Flow:
        """Make the jobs of one relaxed structure.

        Returns
        -------
        A job or flow whose output is a :class:`~gan_htvs.core.properties.PropertyResult`. Errors of
        the user's function are stored as the reason why there is no value.

        Raises
        ------
        UserError
            If the function or Maker cannot be imported.
        """
        name = f"{self.name} {formula_of(structure)}"
        target = self.settings.load()
        if not (isinstance(target, type) and issubclass(target, Maker)):
            return mark(self.compute(structure), Step.PROPERTY, "property", name)
        jobs = target(**self.settings.arguments).make(structure)
        for part in [jobs] if isinstance(jobs, Job) else [part for part, _ in jobs.iterflow()]:
            mark(part, Step.PROPERTY, "property")
        read_job = mark(self.read(jobs.output), Step.PROPERTY, "other", name)
        return Flow([jobs, read_job], output=read_job.output, name=name)

    @job
    def compute(self, structure: Structure) -> PropertyResult:
        """Call the user's function."""
        try:
            value = self.settings.load()(structure, **self.settings.arguments)
        except UserError as error:
            return self._result(str(error))
        except Exception as error:  # noqa: BLE001 - the code of the user may raise anything
            reason = f"{self.settings.path} raised {type(error).__name__}: {one_line(error)}"
            return self._result(reason)
        return self._result(value)

    @job(config=TOLERANT)
    def read(self, value: Any) -> PropertyResult:
        """Read the output of the user's Maker."""
        return self._result("its job has no output" if value is None else value)

    def _result(self, value: Any) -> PropertyResult:
        """Return the result with a number, or with a reason: text, or another invalid value."""
        unit = self.settings.unit
        if isinstance(value, str):
            return PropertyResult(unit=unit, reason=value)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            reason = f"{self.settings.path} returned {reprlib.repr(value)}, not a finite number"
            return PropertyResult(unit=unit, reason=reason)
        return PropertyResult(value=number, unit=unit)
