"""Outputs of VASP are read if they are complete and refused otherwise."""

from __future__ import annotations

import pytest
from custodian.custodian import MaxCorrectionsError, ReturnCodeError, ValidationError
from custodian.vasp.validators import VasprunXMLValidator

from flows.engines.vasp_outcome import MomentsValidator, explain, messages_in, moments_in

END = " General timing and accounting\n"
TWO_ATOMS = """\
 magnetization (x)

# of ion       s       p       d       tot
------------------------------------------
    1        0.010   0.020   4.630   4.660
    2        0.000  -0.048   0.000  -0.048
--------------------------------------------------
tot          0.010  -0.028   4.630   4.612

"""
ONE_ATOM = """\
 magnetization (x)

# of ion       s       p       d       tot
------------------------------------------
    1        0.010   0.020   2.180   2.210


"""


@pytest.fixture
def outcar(tmp_path):
    def write(text):
        path = tmp_path / "OUTCAR"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "moments"),
    [
        (TWO_ATOMS + END, [4.66, -0.048]),
        (ONE_ATOM + END, [2.21]),
        # There may be a table of every ionic step; the last one is read.
        (TWO_ATOMS.replace("4.660", "1.000") + TWO_ATOMS + END, [4.66, -0.048]),
        (b" node \xe9\n" + (TWO_ATOMS + END).encode(), [4.66, -0.048]),
    ],
)
def test_moments_are_those_of_the_last_table(outcar, text, moments):
    assert moments_in(outcar(text)) == pytest.approx(moments)


@pytest.mark.parametrize(
    "text",
    [
        END,
        TWO_ATOMS,  # cut off after the table, which may be of an earlier step
        TWO_ATOMS[: TWO_ATOMS.index("    2  ")],
        TWO_ATOMS.replace("   4.660", " *******") + END,
        TWO_ATOMS.replace("   0.010   0.020", " *******   0.020") + END,
        TWO_ATOMS.replace("  -0.048\n", "     NaN\n") + END,
        TWO_ATOMS.replace("4.630   4.660", "4.630") + END,
        "",
    ],
)
def test_missing_or_invalid_moments_give_none(outcar, text):
    assert moments_in(outcar(text)) == []


def test_recorded_outcar_without_moments(recorded_vasp, outcar):
    # VASP wrote it with ISPIN = 2 and LORBIT = 0.
    text = recorded_vasp("OUTCAR_example_1").read_text()
    assert "ISPIN  =      2" in text
    assert moments_in(outcar(text)) == []


@pytest.mark.parametrize(
    ("incar", "text", "is_refused"),
    [
        ("ISPIN = 2", TWO_ATOMS + END, False),
        ("ISPIN = 2", ONE_ATOM + END, True),  # a moment for each of the two atoms
        ("ISPIN = 2", END, True),
        ("ISPIN = 1", END, False),
        ("NSW = 0", END, False),
    ],
)
def test_only_calculations_with_spin_need_moments(outcar, tmp_path, incar, text, is_refused):
    outcar(text)
    (tmp_path / "INCAR").write_text(incar)
    (tmp_path / "POSCAR").write_text(
        "MnO\n1\n 0 2 2\n 2 0 2\n 2 2 0\nMn O\n1 1\nDirect\n 0 0 0\n 0.5 0.5 0.5\n"
    )
    assert MomentsValidator().check(str(tmp_path)) is is_refused


def cut_off():
    return ValidationError("no", raises=True, validator=VasprunXMLValidator())


BOX = """\
 -----------------------------------------------------------------------------
|                                                                             |
|     Error EDDDAV: Call to ZHEGV failed. Returncode = 7 1 8                  |
|                                                                             |
|       ---->  I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!! <----       |
 -----------------------------------------------------------------------------
"""


@pytest.mark.parametrize(
    ("name", "text", "quoted"),
    [
        ("std_err.txt", "FATAL: could not open image vasp.sif\n", "could not open image vasp.sif"),
        ("std_err.txt", "srun: error: Unable to create step\n", "Unable to create step"),
        ("std_err.txt", b"forrtl: severe (174): SIGSEGV \xff\n", "SIGSEGV"),
        ("vasp.out", BOX, "Call to ZHEGV failed"),
        ("vasp.out", "DAV:   1  0.1E+01\n" + BOX, "ZHEGV"),
    ],
)
@pytest.mark.parametrize("error", [cut_off(), ReturnCodeError("code 1", raises=True)])
def test_reason_quotes_the_program(tmp_path, error, name, text, quoted):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    reason, is_retryable = explain(error, [], tmp_path)
    assert f"{name}: " in reason
    assert quoted in reason
    assert "killed" not in reason
    assert "\n" not in reason
    assert is_retryable


@pytest.mark.parametrize("output", [None, "", " \n---\n", " N  E  dE\nDAV:   1  -0.1E+02\n"])
def test_silent_program_was_perhaps_killed(tmp_path, output):
    if output is not None:
        (tmp_path / "vasp.out").write_text(output)
    assert messages_in(tmp_path) == ""
    assert "killed" in explain(cut_off(), [], tmp_path)[0]


def test_long_messages_are_shortened(tmp_path):
    lines = ["the cause", *(f"frame {n} {'x' * 500}" for n in range(100)), "the end"]
    (tmp_path / "std_err.txt").write_text("\n".join(lines))
    quoted = messages_in(tmp_path)
    assert "the cause" in quoted
    assert "the end" in quoted
    assert len(quoted) < 500


def test_reason_of_custodian_is_not_mixed_with_messages(tmp_path):
    (tmp_path / "vasp.out").write_text(BOX)
    error = MaxCorrectionsError("no", raises=True, max_errors=5)
    reason, _ = explain(error, ["brmix"] * 5, tmp_path)
    assert reason == "custodian gave up after 5 errors, the last one brmix"
