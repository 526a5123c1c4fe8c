"""Damaged files of the user end in a result or in one sentence."""

from __future__ import annotations

import gzip
import io
import random
import re
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from ase.io.extxyz import write_extxyz
from pymatgen.core import Composition, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from gan_htvs.campaign.campaign_file import read_campaign
from gan_htvs.core.errors import UserError
from gan_htvs.generator.checkpoint import deserialize, load, serialize
from gan_htvs.structures.structure_files import read_structures
from tests.helpers import layered, mg_o, rocksalt, spinel

if TYPE_CHECKING:
    from collections.abc import Iterator

N_FILES = 100
"""Number of mutated files of each format; there are five."""

ALPHABET = b"0123456789.-+eE?#;'\"_ \n\t{}[]:,MgOHXq\0\xff"


def mutated(content: bytes, seed: int) -> Iterator[bytes]:
    """Yield copies with some bytes changed, removed, repeated or moved, or lines removed."""
    rng = random.Random(seed)
    for _ in range(N_FILES):
        data = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
            start = rng.randrange(len(data) + 1)
            stop = min(len(data), start + rng.choice([1, 1, 2, 10, 100]))
            lines = bytes(data).split(b"\n")
            line = rng.randrange(len(lines))
            match rng.randrange(6):
                case 0:
                    data[start:stop] = bytes(rng.choice(ALPHABET) for _ in range(stop - start))
                case 1:
                    del data[start:stop]
                case 2:
                    data[start:start] = bytes([rng.choice(ALPHABET)])
                case 3:
                    data[start:start] = data[start:stop]
                case 4:
                    data = bytearray(b"\n".join(lines[:line] + lines[line + 1 :]))
                case 5:
                    data = bytearray(b"\n".join([*lines[:line], lines[line], *lines[line:]]))
        yield bytes(data)


def stated_formula(data: bytes) -> Composition | None:
    """Return the formula of a CIF if it is intact and the only one."""
    found = re.findall(rb"^_chemical_formula_sum +'([A-Za-z0-9 ]+)'$", data, re.MULTILINE)
    try:
        return Composition(found[0].decode()) if len(found) == 1 else None
    except ValueError:
        return None


def cif() -> bytes:
    return str(spinel().to(fmt="cif", symprec=0.01)).encode()


def poscar() -> bytes:
    return str(layered().to(fmt="poscar")).encode()


def extxyz() -> bytes:
    text = io.StringIO()
    structures = (rocksalt(), layered())
    write_extxyz(text, [AseAtomsAdaptor.get_atoms(s, msonable=False) for s in structures])
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "content"), [("a.cif", cif()), ("POSCAR", poscar()), ("a.extxyz", extxyz())]
)
def test_structure_files(tmp_path, name, content):
    n_read = n_refused = 0
    for number, data in enumerate(mutated(content, seed=28)):
        is_compressed = number % 20 == 0
        path = tmp_path / (f"{name}.gz" if is_compressed else name)
        path.write_bytes(gzip.compress(data, mtime=0) if is_compressed else data)
        try:
            folder = read_structures(tmp_path)
        except UserError:
            n_refused += 1
        else:
            n_read += len(folder.structures)
            n_refused += len(folder.skipped)
            assert all(reason and "\n" not in reason for reason in folder.skipped.values())
            for structure in folder.structures.values():
                check_composition(structure, data, name)
        path.unlink()
    assert n_read > N_FILES // 10
    assert n_refused > N_FILES // 10


def check_composition(structure: Structure, data: bytes, name: str) -> None:
    found = structure.composition
    if name == "a.cif" and (formula := stated_formula(data)) is not None:
        assert found.reduced_formula == formula.reduced_formula
    if name == "POSCAR":
        words = [line.split() for line in data.decode("latin-1").split("\n")]
        if all(word.isdecimal() for word in words[6]) and not words[5][0].isdecimal():
            expected = Composition()
            for symbol, n in zip(words[5], words[6], strict=True):
                expected += Composition({symbol: int(n)})
            assert found == expected
    if name == "a.extxyz":
        counts = [int(line) for line in data.split(b"\n") if line.strip().isdigit()]
        assert len(structure) in counts


def test_campaign_files(tmp_path):
    path = tmp_path / "campaign.yaml"
    content = yaml.safe_dump(mg_o().model_dump(mode="json", exclude_unset=True)).encode()
    messages = []
    for data in mutated(content, seed=28):
        path.write_bytes(data)
        try:
            read_campaign(path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > N_FILES // 10
    assert all(str(path) in message for message in messages)


def test_checkpoints():
    content = serialize({"weight": torch.arange(6.0).reshape(2, 3)}, {"kind": "test"})
    assert deserialize(content, "a")[1]["kind"] == "test"
    n_refused = 0
    for data in mutated(content, seed=28):
        with pytest.raises(UserError):
            load(data)
        try:
            deserialize(data, "a")
        except UserError as error:
            n_refused += "\n" not in str(error)
    assert n_refused > 0.9 * N_FILES
