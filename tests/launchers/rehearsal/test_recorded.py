"""The stand-in's files against files that VASP itself wrote, as far as ASE ships some."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree as ET

import pytest
from pymatgen.io.vasp.outputs import Outcar
from pymatgen.io.vasp.sets import MPStaticSet

from launchers.rehearsal.program import run

VASPRUNS = ("vasprun_pstress.xml", "vasprun_dfpt.xml")
OF_TAGS = {"incar", "parameters"}
"""Elements whose content depends on INCAR, and is compared tag by tag."""

NOT_RECORDED = {"ALGO"}
"""In VASP's own file only if it is in INCAR, which is not the case here."""


@pytest.fixture(scope="module")
def theirs(recorded_vasp):
    return [ET.parse(recorded_vasp(name)).getroot() for name in VASPRUNS]


@pytest.fixture
def ours(mgo, written):
    folder = written(mgo, MPStaticSet, ISPIN=1)
    assert run(folder) == 0
    return folder


def elements(root):
    """Path of each element, with the names on the way, and the attributes that it has."""
    found = set()
    pending = [(child, root.tag) for child in root if child.tag not in OF_TAGS]
    while pending:
        element, above = pending.pop()
        path = f"{above}/{element.tag} {element.get('name', '')}"
        found.add((path, tuple(sorted(element.attrib))))
        pending += [(child, path) for child in element]
    return found


def tags(roots):
    """Element and type in which each tag of INCAR is written."""
    found = defaultdict(set)
    for root in roots:
        for section in OF_TAGS:
            for element in root.find(section).iter():
                if element.tag in {"i", "v"}:
                    found[element.get("name")].add((element.tag, element.get("type")))
    return found


def test_every_element_of_vasprun_is_one_of_vasps(ours, theirs):
    recorded = set.union(*map(elements, theirs))
    written = elements(ET.parse(ours / "vasprun.xml").getroot())
    assert len(written) > 50
    assert written - recorded == set()


def test_tags_have_the_types_that_vasp_gives_them(ours, theirs):
    recorded = tags(theirs)
    written = tags([ET.parse(ours / "vasprun.xml").getroot()])
    assert written.keys() - recorded.keys() == NOT_RECORDED
    for name in written.keys() & recorded.keys():
        assert written[name] <= recorded[name], name


def test_outcar_tells_what_vasps_tells_of_the_run(ours, recorded_vasp):
    recorded = Outcar(recorded_vasp("OUTCAR_example_1"))  # of VASP 5.3
    assert Outcar(ours / "OUTCAR").run_stats.keys() == recorded.run_stats.keys()
