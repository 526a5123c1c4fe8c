"""Worker categories, and the category of each kind of job."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from gan_htvs.core.settings import Settings


class Category(StrEnum):
    """Kind of machine that a job needs; FireWorks workers run jobs of the categories they list."""

    GPU = "gpu"
    CPU = "cpu"
    DFT = "dft"
    HSE = "hse"


class RoutingSettings(Settings):
    """Worker category of each kind of job; see docs/queues.md."""

    train: Category = Field(Category.GPU, description="training of the generator")
    generate: Category = Field(Category.GPU, description="sampling of the generator")
    potential: Category = Field(
        Category.CPU, description="relaxation and energy by an interatomic potential"
    )
    dft: Category = Field(Category.DFT, description="relaxation and energy by VASP")
    hybrid: Category = Field(Category.HSE, description="band gaps, by VASP or GPAW")
    other: Category = Field(
        Category.CPU, description="fast jobs: other proposers, gates, assembly, release"
    )
