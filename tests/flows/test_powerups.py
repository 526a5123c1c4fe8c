"""atomate2's powerups and jobflow's ``update_maker_kwargs`` reach all jobs, later ones included."""

from __future__ import annotations

from pathlib import Path

import pytest
from atomate2.utils.path import strip_hostname
from atomate2.vasp.flows.mp import MPMetaGGADoubleRelaxMaker
from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.powerups import (
    add_metadata_to_flow,
    update_user_incar_settings,
    update_user_kpoints_settings,
)
from emmet.core.tasks import TaskDoc
from jobflow import Flow, run_locally
from monty.os.path import zpath
from pymatgen.io.vasp.inputs import Incar

from flows.candidate import CandidateMaker, StabilityMaker
from flows.composition import CompositionMaker
from flows.energy import PotentialEnergyMaker
from flows.engines.hybrid import VaspBandGapMaker
from flows.engines.vasp import VaspEnergyMaker
from flows.engines.vasp_step import VaspStepMaker
from flows.prescreen import PrescreenMaker
from flows.references import ReferencesMaker
from gan_htvs.core.document import decode
from gan_htvs.core.funnel_stages import FunnelSettings
from gan_htvs.core.pourbaix_stability import PourbaixSettings
from tests.helpers import (
    LOOSE_STAGES,
    PBE_U,
    cesium_chloride,
    memory_store,
    output_of,
    references,
    rocksalt,
)


def vasp_candidate() -> CandidateMaker:
    """Return a Maker of candidates with energies and gaps from VASP."""
    step_maker = VaspStepMaker(polling_seconds=0.1)
    return CandidateMaker(
        energy_maker=VaspEnergyMaker(step_maker=step_maker),
        stability_maker=StabilityMaker(
            band_gap_maker=VaspBandGapMaker(step_maker=step_maker),
            funnel=FunnelSettings(stages=LOOSE_STAGES),
        ),
    )


def vasp_makers(flow: Flow) -> list[BaseVaspMaker]:
    """List the atomate2 Makers of all VASP jobs of a flow."""
    makers = [job.maker for job, _ in flow.iterflow()]
    return [maker.vasp for maker in makers if isinstance(maker, VaspStepMaker)]


def test_powerups_reach_all_vasp_jobs_of_a_flow():
    flow = VaspEnergyMaker().make(rocksalt("Mn", 4.5))
    flow = update_user_incar_settings(flow, {"NCORE": 4})
    flow = update_user_kpoints_settings(flow, {"reciprocal_density": 200})
    flow = add_metadata_to_flow(flow, {"project": "photoanodes"})
    makers = vasp_makers(flow)
    assert len(makers) == 6
    for maker in makers:
        assert maker.input_set_generator.user_incar_settings["NCORE"] == 4
        assert maker.input_set_generator.user_kpoints_settings == {"reciprocal_density": 200}
        assert maker.task_document_kwargs["additional_fields"] == {"project": "photoanodes"}
        assert maker.task_document_kwargs["parse_dos"] is False, "other settings are kept"


def test_powerup_selects_jobs_by_name():
    flow = VaspEnergyMaker().make(rocksalt())
    flow = update_user_incar_settings(flow, {"NELM": 300}, name_filter="static")
    tags = {
        maker.name: maker.input_set_generator.user_incar_settings.get("NELM")
        for maker in vasp_makers(flow)
    }
    assert tags["NM static"] == 300
    assert tags["NM relax 1"] == tags["NM relax 2"] != 300


def test_powerup_of_a_maker_reaches_its_jobs():
    maker = update_user_incar_settings(
        CompositionMaker(candidate_maker=vasp_candidate()), {"KPAR": 2}
    )
    flow = maker.candidate_maker.energy_maker.make(rocksalt())
    generators = [vasp_maker.input_set_generator for vasp_maker in vasp_makers(flow)]
    assert [generator.user_incar_settings["KPAR"] for generator in generators] == [2] * 3


def test_level_of_theory_names_another_relaxation_functional():
    maker = VaspEnergyMaker(relax_maker=MPMetaGGADoubleRelaxMaker())
    assert maker.level_of_theory == f"{PBE_U}//r2SCAN"
    generators = [step.input_set_generator for step in vasp_makers(maker.make(rocksalt()))]
    inputs = [generator.get_input_set(rocksalt(), potcar_spec=True) for generator in generators]
    incars = [input_set.incar for input_set in inputs]
    assert [incar.get("METAGGA") for incar in incars] == [None, "R2scan", None]


@pytest.mark.usefixtures("stand_in")
def test_powerups_reach_jobs_created_later(tmp_path):
    energies = {"Mg": -1.58, "O2": -4.948, "MgO": -6.31}
    flow = vasp_candidate().make(rocksalt("Mg", 4.3), references(PBE_U, energies))
    flow = update_user_incar_settings(flow, {"NCORE": 4})
    flow = add_metadata_to_flow(flow, {"project": "photoanodes"})
    store = memory_store()
    run_locally(flow, store=store, create_folders=True, root_dir=tmp_path, log=False)
    outputs = [decode(document["output"]) for document in store.query({}, load=True)]
    tasks = [output for output in outputs if isinstance(output, TaskDoc)]
    assert len(tasks) == 4
    folders = [Path(strip_hostname(task.dir_name)) for task in tasks]
    incars = [Incar.from_file(zpath(str(folder / "INCAR"))) for folder in folders]
    assert [incar["NCORE"] for incar in incars] == [4] * 4
    assert [incar.get("LHFCALC", False) for incar in incars].count(True) == 1, (
        "created by the stability job"
    )
    assert [task.model_dump()["project"] for task in tasks] == ["photoanodes"] * 4


def test_update_maker_kwargs_reaches_candidates_of_a_selection():
    prescreen = PrescreenMaker(confirm=None)
    references = ReferencesMaker().make(["Mg", "O"])
    screen_job = prescreen.make([rocksalt(), cesium_chloride()], references.output)
    maker = CompositionMaker(
        prescreen_maker=prescreen,
        candidate_maker=CandidateMaker(
            energy_maker=PotentialEnergyMaker(),
            stability_maker=StabilityMaker(band_gap_maker=None),
        ),
    )
    select_job = maker.select_maker.make([screen_job.output.proposals])
    evaluate_job = maker.candidate_maker.make_all(select_job.output, references.output)
    jobs = [references, screen_job, select_job, evaluate_job]
    flow = Flow(jobs, output=evaluate_job.output)
    conditions = PourbaixSettings(potential_vs_rhe=0.5)
    flow.update_maker_kwargs({"pourbaix": conditions}, class_filter=StabilityMaker)
    (verdict,) = output_of(flow)
    assert verdict.assessment.pourbaix.settings.potential_vs_rhe == 0.5
