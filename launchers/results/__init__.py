"""Results for people and programs: the web page, reports, archives, and an OPTIMADE server."""
