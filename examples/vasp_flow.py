"""The VASP flow of one composition, with another relaxation (r2SCAN) and two powerups."""

from pathlib import Path

from atomate2.vasp.flows.mp import MPMetaGGADoubleRelaxMaker
from atomate2.vasp.powerups import add_metadata_to_flow, update_user_incar_settings
from jobflow import Flow
from jobflow.utils.graph import to_mermaid
from pymatgen.core import Lattice, Structure

from flows.candidate import CandidateMaker, StabilityMaker
from flows.composition import CompositionMaker
from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from flows.prescreen import PrescreenMaker
from flows.references import ReferencesMaker

elements = ["Mg", "Mn", "O"]
energy_maker = VaspEnergyMaker(relax_maker=MPMetaGGADoubleRelaxMaker())
candidate_maker = CandidateMaker(
    energy_maker=energy_maker, stability_maker=StabilityMaker(band_gap_maker=VaspBandGapMaker())
)
maker = CompositionMaker(
    n_structures=300, prescreen_maker=PrescreenMaker(confirm=None), candidate_maker=candidate_maker
)
references = ReferencesMaker(energy_maker=energy_maker).make(elements)
prescreen_references = ReferencesMaker().make(elements)
composition = maker.make(
    "MgMn2O4", references=references.output, prescreen_references=prescreen_references.output
)
flow = Flow([references, prescreen_references, composition], output=composition.output)

# Powerups change all VASP jobs, including those that are created later.
flow = update_user_incar_settings(flow, {"NCORE": 4})
flow = add_metadata_to_flow(flow, {"project": "photoanodes"})

manganosite = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.44), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()
candidate = candidate_maker.make(manganosite, references.output)
Path("composition.mmd").write_text(to_mermaid(composition, show_flow_boxes=True))
Path("candidate.mmd").write_text(to_mermaid(candidate, show_flow_boxes=True))
print(len(list(flow.iterflow())), "jobs, and those of the survivors")
