"""Evaluation of proposers: validity before relaxation, S.U.N. after it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation_documents": ["Evaluation", "Report"],
        "evaluation_report": ["make_report", "write_report"],
    },
)
