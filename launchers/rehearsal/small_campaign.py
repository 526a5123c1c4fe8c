"""The campaign of a rehearsal and its database."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from gan_htvs.campaign.campaign_file import validate_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.core.files import write_atomically
from gan_htvs.core.potcars import potcar_symbols
from gan_htvs.core.stages import ProposerName
from gan_htvs.core.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gan_htvs.campaign.compositions import CompositionSettings
    from gan_htvs.campaign.model import Campaign

POLLING_SECONDS = 0.2
"""Polling interval of custodian, s; the stand-in takes seconds."""

FROZEN_SECONDS = 120
"""Time without output after which custodian ends the stand-in, s."""


def rehearsal_of(
    campaign: Campaign, n_structures: int, compositions: Sequence[CompositionSettings]
) -> Campaign:
    """Return the small campaign that rehearses another one.

    It has no prescreen, so all structures reach VASP. It trains no generator; random structures
    replace those of an untrained generator. All reference phases are computed, and band gaps of
    codes other than VASP are omitted.

    Parameters
    ----------
    campaign
        The campaign to rehearse.
    n_structures
        Structures of each composition from each proposer.
    compositions
        Compositions; empty: those of the campaign.

    Raises
    ------
    UserError
        If its energies are not computed with VASP, or a composition is impossible.
    """
    if campaign.engines.energy.name != "vasp":
        raise UserError(
            f"engines.energy.name: {campaign.engines.energy.name!r} does not use VASP; only VASP "
            "campaigns can be rehearsed. Use `gan-htvs run` for this campaign."
        )
    document = campaign.model_dump()
    sampling, engines = document["sampling"], document["engines"]
    sampling["structures_per_composition"] = n_structures
    if campaign.generator.checkpoint is None:
        proposers = [
            ProposerName.RANDOM if proposer is ProposerName.GAN else proposer
            for proposer in campaign.sampling.proposers
        ]
        sampling["proposers"] = list(dict.fromkeys(proposers))
    if engines["band_gap"]["name"] != "vasp":
        engines["band_gap"]["name"] = "none"
    engines["vasp"]["polling_seconds"] = POLLING_SECONDS
    engines["vasp"]["frozen_seconds"] = min(FROZEN_SECONDS, campaign.engines.vasp.frozen_seconds)
    document["prescreen"] = None
    document["references"]["energies"] = "computed"
    if compositions:
        document["compositions"] = list(compositions)
    return validate_campaign(document, source=campaign.name)


def potcars_of(campaign: Campaign) -> tuple[list[str], str]:
    """Return the symbols of the POTCARs that a campaign needs, and their functional."""
    from flows.engines.vasp import VaspEnergyMaker  # noqa: PLC0415 - it reads atomate2's settings

    inputs = VaspEnergyMaker.of(campaign.engines).static_maker.input_set_generator
    symbols = potcar_symbols(inputs, campaign.chemical_system.elements)
    return sorted(symbols.values()), campaign.engines.vasp.potcar_functional


def own_launchpad(folder: Path) -> Path:
    """Return the my_launchpad.yaml of a rehearsal, and write it if it does not exist.

    It configures a separate embedded database in the same folder.

    Parameters
    ----------
    folder
        Folder of the rehearsal; created if missing.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    path = folder / "my_launchpad.yaml"
    if not path.exists():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "name": "gan_htvs_rehearsal",
            "embedded_storage": "database",
        }
        write_atomically(path, yaml_text(settings).encode())
    return path
