"""Results: the candidate collection, builders, queries, export, figures and the HTML report.

* ``builders``: build candidates from job outputs
* ``store``, ``filters``, ``funnel``: queries and counts
* ``export``, ``plots``, ``html_report``: structure files, figures and reports
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
