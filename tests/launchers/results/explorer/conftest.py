from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.documents import CANDIDATES, store_campaign

collect_ignore_glob = [] if find_spec("dash_mp_components") else ["test_*.py"]


@pytest.fixture
def filled(databases):
    """A database with a campaign and its candidates."""
    store_campaign(databases, CANDIDATES)
    return databases
