"""The web page: find candidates, look at one, watch campaigns.

Every page is a function of its address, so that what is seen can be bookmarked and sent. Nothing
that a browser sends becomes an object or an operator: values are checked by
:class:`gan_htvs.results.filters.Filters`, and ids by their digits. Crystal Toolkit's viewer is used
as a component that is given a scene; its own callbacks, which decode whatever objects a browser
names, are not.
"""
