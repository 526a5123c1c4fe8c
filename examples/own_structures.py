"""Energy above hull, Pourbaix decomposition energy and band gap of your own structures."""

from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from flows.band_gap import GpawBandGapMaker
from flows.candidate import CandidateMaker, StabilityMaker
from flows.references import ReferencesMaker
from gan_htvs.campaign.engines import BandGapEngineSettings

cell = Lattice([[0.0, 2.15, 2.15], [2.15, 0.0, 2.15], [2.15, 2.15, 0.0]])
structures = [Structure(cell, ["Mg", "O"], [[0, 0, 0], [x, x, x]]) for x in (0.5, 0.25)]

# Low cutoff and few k points for a quick test; use the default settings for converged gaps.
gaps = GpawBandGapMaker(settings=BandGapEngineSettings(cutoff=250, kpoint_length=6))
maker = CandidateMaker(stability_maker=StabilityMaker(band_gap_maker=gaps))
references = ReferencesMaker().make(["Mg", "O"])
candidates = [maker.make(structure, references.output) for structure in structures]
store = JobStore(MemoryStore())
run_locally(Flow([references, *candidates]), store=store, log=False)
for candidate in candidates:
    verdict = candidate.output.resolve(store)
    print(verdict.relaxed.structure.get_space_group_info()[0], verdict.stage, verdict.reason)
    print(f"  energy above hull             {verdict.assessment.energy_above_hull:.3f} eV/atom")
    print(f"  Pourbaix decomposition energy {verdict.assessment.pourbaix.minimum:.3f} eV/atom")
    print("  band gap                     ", verdict.band_gap and verdict.band_gap.band_gap, "eV")
