"""Access to results: web page, reports, archives and an OPTIMADE server."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "archive": ["read_archive", "write_archive"],
        "campaign_report": ["read_results", "write_report"],
    },
)
