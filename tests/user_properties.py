"""Properties as a user of the package writes them."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import Flow, Maker, job


def atoms_per_volume(structure, scale=1.0):
    """Return the number of atoms per volume, 1/A^3."""
    return scale * len(structure) / structure.volume


def fail(structure):
    """Raise an error."""
    raise ArithmeticError(f"no value for {structure.composition.reduced_formula}")


def unknown(structure):
    """Return something that is not a number."""
    return


@dataclass
class CoordinationMaker(Maker):
    """Count neighbors in two jobs."""

    name: str = "coordination"
    cutoff: float = 2.5

    def make(self, structure):
        counting = self.count(structure)
        averaging = self.average(counting.output)
        return Flow([counting, averaging], output=averaging.output)

    @job
    def count(self, structure):
        return [len(neighbors) for neighbors in structure.get_all_neighbors(self.cutoff)]

    @job
    def average(self, counts):
        return sum(counts) / len(counts)
