"""Results: the candidate collection, builders, queries, export, figures and the HTML report.

* ``builders``: job outputs to candidates
* ``store``, ``filters``, ``funnel``: queries and counts
* ``export``, ``plots``, ``html_report``: files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "export": ["export_structures"],
        "filters": ["Filters"],
        "funnel": ["Funnel", "measure_funnel"],
        "store": ["CandidateStore"],
    },
)
