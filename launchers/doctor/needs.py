"""What a campaign asks of a machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gan_htvs.engines import EngineSettings
from gan_htvs.potentials import SHIPPED
from launchers.doctor.check import Need

if TYPE_CHECKING:
    from pathlib import Path

    from gan_htvs.campaign import Campaign
    from gan_htvs.prescreen.settings import PrescreenSettings


@dataclass(frozen=True)
class Needs:
    """How badly each part is needed; None: not at all. The default is to ask for all of it."""

    database: Need = Need.OPTIONAL
    potentials: dict[str, Need | None] = field(
        default_factory=lambda: dict.fromkeys(SHIPPED, Need.OPTIONAL)
    )
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the calculators of potentials that have any, by their names."""
    gpaw: Need | None = Need.OPTIONAL
    vasp: Need | None = Need.OPTIONAL
    custodian: Need | None = Need.OPTIONAL
    enumlib: Need | None = Need.CONVENIENT
    materials_project: Need | None = Need.OPTIONAL
    elements: tuple[str, ...] = ()
    """Those that POTCARs are wanted of."""
    engines: EngineSettings = field(default_factory=EngineSettings)
    campaign: Campaign | None = None
    """Whose reference phases are needed, with their file found."""


def needs_of_engines(
    engines: EngineSettings,
    prescreen: PrescreenSettings | None = None,
    *,
    elements: tuple[str, ...],
    materials_project: bool = False,
) -> Needs:
    """Tell what engines ask for.

    Parameters
    ----------
    engines, prescreen
        Sections of campaign.yaml.
    elements
        Of the chemical system.
    materials_project
        Whether structures or phases come from there.
    """

    def needed(condition: bool) -> Need | None:
        return Need.REQUIRED if condition else None

    names = {engines.energy.name, engines.band_gap.name}
    runs_vasp = "vasp" in names
    potentials = {engines.energy.name}
    if engines.energy.name == "vasp" and engines.vasp.pre_relaxation:
        potentials.add(engines.vasp.pre_relaxation)
    arguments = {engines.energy.name: engines.energy.arguments}
    if engines.vasp.pre_relaxation:
        arguments[engines.vasp.pre_relaxation] = engines.energy.arguments
    for each in prescreen.potentials(engines) if prescreen else ():
        potentials.add(each.name)
        arguments[each.name] = each.arguments
    return Needs(
        database=Need.REQUIRED,
        potentials={
            name: needed(name in potentials)
            for name in (*SHIPPED, *sorted(potentials - {"vasp"} - set(SHIPPED)))
        },
        arguments=arguments,
        gpaw=needed("gpaw" in names),
        vasp=needed(runs_vasp),
        custodian=needed(runs_vasp),
        enumlib=needed(runs_vasp and engines.vasp.orderings == "enumlib"),
        materials_project=needed(materials_project),
        elements=elements,
        engines=engines,
    )


def needs_of_campaign(campaign: Campaign, folder: Path) -> Needs:
    """Tell what a campaign asks for, whose file lies in ``folder``."""
    references = campaign.references
    path = references.path and folder / references.path.expanduser()
    references = references.model_copy(update={"path": path})
    must_fetch = path is not None and not path.exists()
    needs = needs_of_engines(
        campaign.engines,
        campaign.prescreen,
        elements=campaign.chemical_system.elements,
        materials_project=must_fetch or campaign.dataset.source == "materials_project",
    )
    return replace(needs, campaign=campaign.model_copy(update={"references": references}))
