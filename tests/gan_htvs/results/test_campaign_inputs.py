from __future__ import annotations

from gan_htvs.core.stages import Step
from gan_htvs.results.campaign_inputs import read_inputs
from tests.helpers import memory_store, mg_o


def test_skipped_files_of_the_training_set_are_known_afterwards():
    summary = {"structures": 3, "source_notes": ["1 structure or file was skipped."]}
    store = memory_store().docs_store
    store.connect()
    trained = {"sha256": "aa", "dataset": summary}
    labels = {"step": Step.TRAIN.value, "campaign": "training"}
    store.update({"uuid": "1", "metadata": labels, "output": trained})
    inputs = read_inputs(store, mg_o(), [{"origin": {"checkpoint": "aa"}}])
    assert inputs.n_training == 3
    assert inputs.source_notes == ("1 structure or file was skipped.",)
    assert read_inputs(store, mg_o(), [], ["mg-o", "training"]) == inputs
    assert read_inputs(store, mg_o(), [], ["mg-o", "other"]).source_notes == ()


def test_skipped_files_of_each_generator_are_known():
    store = memory_store().docs_store
    store.connect()
    notes = {
        "aa": ["a.cif was skipped."],
        "bb": ["b.cif was skipped."],
        "cc": ["a.cif was skipped."],
    }
    for sha256, sentences in notes.items():
        for number, summary in enumerate(({"structures": 3, "source_notes": sentences}, None)):
            trained = {"sha256": sha256, "dataset": summary}
            labels = {"step": Step.TRAIN.value}
            store.update({"uuid": f"{sha256} {number}", "metadata": labels, "output": trained})
    rows = [{"origin": {"checkpoint": sha256}} for sha256 in (*notes, "unknown", None)]
    inputs = read_inputs(store, mg_o(), rows)
    assert inputs.n_training is None
    assert inputs.source_notes == ("a.cif was skipped.", "b.cif was skipped.")
    assert read_inputs(store, mg_o(), rows[:1]).n_training == 3


def test_training_set_of_the_first_round_is_that_of_later_generators():
    store = memory_store().docs_store
    store.connect()
    labels = {"step": Step.TRAIN.value}
    for number, (sha256, n_structures) in enumerate([("aa", 3), ("bb", 5), ("cc", 6)], 1):
        output = {"sha256": sha256, "dataset": {"structures": n_structures}}
        later = {"round": number, "first": "aa"} if number > 1 else {}
        store.update({"uuid": str(number), "metadata": labels, "output": output | later})
    rows = [{"origin": {"checkpoint": sha256}} for sha256 in ("aa", "bb", "cc", "bb")]
    assert read_inputs(store, mg_o(), rows).n_training == 3
    other = {"origin": {"checkpoint": "dd"}}
    assert read_inputs(store, mg_o(), [*rows, other]).n_training is None


def test_skipped_files_of_own_structures_are_known_without_training(tmp_path):
    structures = {"path": tmp_path, "source_notes": ["a.cif was skipped."]}
    store = memory_store().docs_store
    store.connect()
    inputs = read_inputs(store, mg_o(structures=structures), [])
    assert inputs.source_notes == ("a.cif was skipped.",)
