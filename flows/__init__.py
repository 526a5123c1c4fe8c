"""Workflows: jobflow Makers that run the science of gan_htvs and the calculations of atomate2."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "band_gap": ["BandGapMaker", "GpawBandGapMaker"],
        "campaign": ["CampaignMaker"],
        "candidate": ["CandidateMaker"],
        "composition": ["CompositionMaker"],
        "energy": ["EnergyMaker", "PotentialEnergyMaker"],
        "prescreen": ["PrescreenMaker", "SelectMaker"],
        "references": ["ReferencesMaker"],
        "sample": ["SampleMaker"],
        "train": ["TrainMaker"],
    },
)
