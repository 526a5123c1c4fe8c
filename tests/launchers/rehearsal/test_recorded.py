"""Files of the stand-in compared with files of VASP that ASE ships."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree as ET

import pytest
from pymatgen.io.vasp.outputs import Outcar
from pymatgen.io.vasp.sets import MPStaticSet

from launchers.rehearsal.program import run

VASPRUNS = ("vasprun_pstress.xml", "vasprun_dfpt.xml")
INCAR_SECTIONS = {"incar", "parameters"}
"""Elements whose content depends on INCAR; they are compared tag by tag."""

NOT_RECORDED = {"ALGO"}
"""Tags that VASP writes only if INCAR has them, which those of the recorded files do not."""


@pytest.fixture(scope="module")
def vasp_roots(recorded_vasp):
    return [ET.parse(recorded_vasp(name)).getroot() for name in VASPRUNS]


@pytest.fixture
def stand_in_folder(mgo, written):
    folder = written(mgo, MPStaticSet, ISPIN=1)
    assert run(folder) == 0
    return folder


def elements(root):
    """Return the path of each element, including names, with its attributes."""
    paths = set()
    pending = [(child, root.tag) for child in root if child.tag not in INCAR_SECTIONS]
    while pending:
        element, parent = pending.pop()
        path = f"{parent}/{element.tag} {element.get('name', '')}"
        paths.add((path, tuple(sorted(element.attrib))))
        pending += [(child, path) for child in element]
    return paths


def tags(roots):
    """Return the element and type of each INCAR tag."""
    types = defaultdict(set)
    for root in roots:
        for section in INCAR_SECTIONS:
            for element in root.find(section).iter():
                if element.tag in {"i", "v"}:
                    types[element.get("name")].add((element.tag, element.get("type")))
    return types


def test_elements_of_vasprun_are_a_subset_of_vasps(stand_in_folder, vasp_roots):
    recorded = set.union(*map(elements, vasp_roots))
    written = elements(ET.parse(stand_in_folder / "vasprun.xml").getroot())
    assert len(written) > 50
    assert written - recorded == set()


def test_tags_have_the_types_of_vasp(stand_in_folder, vasp_roots):
    recorded = tags(vasp_roots)
    written = tags([ET.parse(stand_in_folder / "vasprun.xml").getroot()])
    assert written.keys() - recorded.keys() == NOT_RECORDED
    for name in written.keys() & recorded.keys():
        assert written[name] <= recorded[name], name


def test_outcar_has_the_run_statistics_of_vasp(stand_in_folder, recorded_vasp):
    recorded = Outcar(recorded_vasp("OUTCAR_example_1"))  # VASP 5.3
    assert Outcar(stand_in_folder / "OUTCAR").run_stats.keys() == recorded.run_stats.keys()
