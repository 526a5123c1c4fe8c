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

    train: Category = Field(Category.GPU, description="worker category for training the generator")
    generate: Category = Field(
        Category.GPU, description="worker category for sampling from the generator"
    )
    potential: Category = Field(
        Category.CPU,
        description="worker category for relaxations and energies by interatomic potentials",
    )
    dft: Category = Field(
        Category.DFT, description="worker category for relaxations and energies by VASP"
    )
    hybrid: Category = Field(
        Category.HSE, description="worker category for band gaps, by VASP or GPAW"
    )
    property: Category = Field(
        Category.CPU, description="worker category for properties that your own code computes"
    )
    other: Category = Field(
        Category.CPU,
        description="worker category for short jobs: other proposers, selection, gates, release",
    )
