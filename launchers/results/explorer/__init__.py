"""Web page to search candidates, view structures and monitor campaigns.

Every page is a function of its URL, which can be bookmarked and shared. Input from the browser
never becomes an object or a database operator: :class:`gan_htvs.results.filters.Filters` validates
filters, and ids are compared as strings. Of Crystal Toolkit, only the viewer component is used; its
callbacks, which decode arbitrary objects sent by a browser, are not registered.
"""
