"""Results: the candidate collection, builders, queries, export, figures and the HTML report.

* ``builders``: job outputs to candidates
* ``store``, ``filters``, ``funnel``: queries and counts
* ``export``, ``plots``, ``html_report``: files
"""
