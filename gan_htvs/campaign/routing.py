"""The kinds of node that a campaign uses, and which of them each kind of work goes to."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from gan_htvs.core.settings import Settings


class Category(StrEnum):
    """A kind of node; FireWorks' workers take the jobs of the categories that they name."""

    GPU = "gpu"
    CPU = "cpu"
    DFT = "dft"
    HSE = "hse"


class RoutingSettings(Settings):
    """Which category of worker takes which work, where workers have one; see docs/queues.md."""

    train: Category = Field(Category.GPU, description="training of the generator")
    generate: Category = Field(Category.GPU, description="sampling of the generator")
    potential: Category = Field(
        Category.CPU, description="relaxation and energy by an interatomic potential"
    )
    dft: Category = Field(Category.DFT, description="relaxation and energy by VASP")
    hybrid: Category = Field(Category.HSE, description="band gaps, by VASP or GPAW")
    other: Category = Field(
        Category.CPU, description="what takes seconds: other proposers, gates, assembly, release"
    )
