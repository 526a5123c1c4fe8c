"""Text that looks like another type stays text in all files that the package writes."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from ruamel.yaml import YAML

from flows.proposals import make_proposal
from gan_htvs.campaign.campaign_file import validate_campaign
from gan_htvs.core.candidate import Novelty
from gan_htvs.core.document import encode
from gan_htvs.core.text import is_text_everywhere
from gan_htvs.core.yaml_text import yaml_text
from gan_htvs.results.builders.optimade import entry
from gan_htvs.results.export import StructureFormat, export_structures, structure_text
from launchers.cli.starting_campaign import starting_campaign
from launchers.console.output import write_csv
from launchers.launchpad.database import open_databases
from launchers.results.archive import read_archive, write_archive
from tests import documents
from tests.helpers import mg_o

AMBIGUOUS = (
    *("2024", "0012", "1e5", "12E4567890123456", "1e-5", "1.5", "1_000", "0x1f", "0o17", "12d5"),
    *("2024-01-15", "nan", "NaN", "inf", "-Infinity", "InF", "None", "null", "NA", "~", "<NA>"),
    *("T", "F", "true", "No", "y", "on", "1 2 3", "T F", "", " ", "a=b", 'a "b"', "{1}", "[1, 2]"),
    *("_JSON 1", "a\\b", "two\nlines", "\u00e9", "# no comment", "a, b", "=1"),
)
TEXT = st.sampled_from(AMBIGUOUS) | st.text(max_size=8)
NUMERIC_TEXT = st.text("0123456789eEdDxo+-._TFnaif", min_size=1, max_size=8)
NAMES = st.sampled_from(AMBIGUOUS) | NUMERIC_TEXT
STRUCTURE = documents.candidate("c1").structure
few = settings(max_examples=25, derandomize=True)


def read_yaml(text):
    """Return the values that readers of YAML 1.2 and 1.1 read."""
    return YAML(typ="safe", pure=True).load(text), yaml.safe_load(text)


def ase_info(candidate):
    return ase.io.read(
        io.StringIO(structure_text(candidate, StructureFormat.EXTXYZ)), format="extxyz"
    ).info


@few
@given(name=NAMES)
def test_campaign_names_are_text_to_all_readers_or_refused(name):
    """Names need no quotation marks or data types: users write and read files of their own."""
    try:
        name = mg_o(name=name).name
    except ValidationError:
        return
    for value in read_yaml(f"name: {name}"):
        assert value == {"name": name}
    assert pd.read_csv(io.StringIO(f"campaign\n{name}\n")).loc[0, "campaign"] == name
    info = ase_info(documents.candidate("c", campaign=name))
    assert info["campaign"] == name


@pytest.mark.parametrize(
    "name",
    ["2024", 2024, "1e5", 1e5, "T", True, "nan", "None", None, "0x1f", "2024-01-15", "No", "NA"],
)
def test_ambiguous_names_are_refused(name):
    with pytest.raises(ValidationError, match="name"):
        mg_o(name=name)
    with pytest.raises(ValidationError, match="name"):
        mg_o(stages=[{"name": name, "property": "density"}])


@pytest.mark.parametrize("name", ["mg-mn-o", "2024-oxides", "run1e5", "NaCl", "e5", "1e5a", "Tl-F"])
def test_names_with_words_are_accepted(name):
    assert is_text_everywhere(name)
    assert mg_o(name=name).name == name


@few
@given(seed=st.integers(0, 2**63))
@example(seed=989)  # the hash is 9983757171447952...
@example(seed=1252)  # 2e70939018119940...
def test_ids_are_text_to_all_readers(seed):
    name = make_proposal(STRUCTURE, seed, proposer="random", index=0).candidate_id
    assert len(name) == 16
    assert is_text_everywhere(name)
    assert pd.read_csv(io.StringIO(f"id\n{name}\n")).loc[0, "id"] == name
    assert read_yaml(name) == (name, name)
    assert ase_info(documents.candidate(name))["candidate_id"] == name


@few
@given(value=TEXT | st.dictionaries(TEXT, TEXT | st.integers() | st.floats(allow_nan=False)))
def test_written_yaml_is_read_alike_by_all_readers(value):
    assert read_yaml(yaml_text(value)) == (value, value)


@few
@given(reason=TEXT, level=TEXT, energy=st.floats(-20, 0))
@example(reason="1e5", level="T", energy=-6.0)
def test_extxyz_files_keep_text_and_energy(reason, level, energy):
    candidate = documents.candidate(
        "c1",
        band_gap_reason=reason,
        level_of_theory=level,
        formula_pretty="InF",
        uncovered_subsystems=["F"],
        energy_per_atom=energy,
    )
    with TemporaryDirectory() as folder:
        path, _ = export_structures([candidate], Path(folder), StructureFormat.EXTXYZ)
        atoms = ase.io.read(path)
    info = atoms.info
    assert (info["band_gap_reason"], info["level_of_theory"]) == (reason, level)
    assert (info["formula"], info["uncovered_subsystems"]) == ("InF", "F")
    assert info["is_relaxed"] is True
    assert atoms.get_potential_energy() == pytest.approx(energy * len(candidate.structure))


def test_extxyz_files_of_generated_structures_have_no_energy():
    candidate = documents.candidate("c1", structure=None, energy_per_atom=-6.0)
    text = structure_text(candidate, StructureFormat.EXTXYZ)
    assert ase.io.read(io.StringIO(text), format="extxyz").calc is None


@few
@given(reason=TEXT, match=TEXT, formula=st.sampled_from(["NaN", "InF", "NO", "MgO"]))
def test_tables_and_documents_keep_text(reason, match, formula):
    candidate = documents.candidate(
        "c1",
        formula_pretty=formula,
        band_gap_reason=reason,
        band_gap=2.5,
        novelty=Novelty(is_novel=False, reference_match=match),
    )
    row = encode(candidate)
    with redirect_stdout(io.StringIO(newline="")) as file:
        write_csv([row])
    options = {"dtype": str, "keep_default_na": False}
    table = pd.read_csv(io.StringIO(file.getvalue(), newline=""), **options).loc[0]
    assert table["formula_pretty"] == formula
    assert (table["band_gap_reason"], table["novelty.reference_match"]) == (reason, match)
    assert float(table["band_gap"]) == 2.5
    with TemporaryDirectory() as folder:
        *_, manifest = export_structures([candidate], Path(folder), StructureFormat.CIF)
        assert pd.read_csv(manifest, **options).loc[0, "band_gap_reason"] == reason
    assert json.loads(json.dumps(row, default=str))["band_gap_reason"] == reason
    properties = entry(candidate)
    assert (properties["id"], properties["band_gap_reason"]) == ("c1", reason)


def test_archives_keep_text(launchpad_file, tmp_path):
    path = tmp_path / "campaign.zip"
    campaign = {"name": "mg-o", "settings": mg_o().model_dump(mode="json")}
    with open_databases(launchpad_file) as databases:
        db = databases.launchpad().db
        db.campaigns.insert_one(campaign)

        @settings(few, max_examples=10)
        @given(ids=st.sets(TEXT, min_size=1), reason=TEXT, values=st.lists(TEXT))
        @example(ids=set(AMBIGUOUS), reason="1e5", values=[*AMBIGUOUS])
        def check(ids, reason, values):
            db.candidates.delete_many({})
            stored = [
                {
                    "candidate_id": name,
                    "campaign": "mg-o",
                    "band_gap_reason": reason,
                    "uncovered_subsystems": values,
                }
                for name in sorted(ids)
            ]
            db.candidates.insert_many(stored)
            write_archive(databases, "mg-o", path)
            db.candidates.delete_many({})
            read_archive(databases, path)
            assert list(db.candidates.find().sort("_id", 1)) == stored

        check()


@pytest.mark.parametrize("structure_format", StructureFormat)
@pytest.mark.parametrize("symbols", [("In", "F"), ("Na", "N"), ("N", "O"), ("Y", "N"), ("No", "F")])
def test_structures_whose_formulas_look_like_values(tmp_path, symbols, structure_format):
    structure = Structure(Lattice.cubic(3.1), symbols, [[0] * 3, [0.5] * 3])
    formula = structure.composition.reduced_formula
    candidate = documents.candidate("c1", structure=structure, formula_pretty=formula)
    path, _ = export_structures([candidate], tmp_path, structure_format)
    file_format = "vasp" if structure_format is StructureFormat.POSCAR else str(structure_format)
    assert sorted(ase.io.read(path, format=file_format).symbols) == sorted(structure.labels)
    if structure_format is not StructureFormat.EXTXYZ:
        assert Structure.from_file(path).composition == structure.composition


@pytest.mark.parametrize("system", ["Y-N", "In-F", "Na-N", "Y-O"])
def test_campaigns_of_init_name_the_elements_as_text(system):
    for document in read_yaml(starting_campaign(system)):
        campaign = validate_campaign(document | {"references": {}}, source=system)
        assert set(campaign.chemical_system.elements) == set(system.split("-"))
