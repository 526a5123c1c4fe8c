"""Evaluation of structures and proposers: validity, S.U.N., diversity and rediscovery.

* ``sample_sets``: samples of proposers and given structures
* ``structure_evaluation``: evaluation of a sample set
* ``measures``, ``structure_metrics``: shares, energies, displacements, prototypes
* ``rediscovery``: crystals outside the training set that samples find
* ``evaluation_documents``, ``evaluation_report``: results and their files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation_documents": ["Evaluation", "Report"],
        "evaluation_report": ["make_report", "write_report"],
        "rediscovery": ["rediscovery_targets"],
        "sample_sets": ["SampleSet", "SampleSettings", "draw_samples"],
        "structure_evaluation": ["EvaluationSettings", "evaluate"],
    },
)
