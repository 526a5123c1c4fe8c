from __future__ import annotations

from importlib.util import find_spec

import pytest

from gan_htvs.core.document import encode
from tests.documents import CAMPAIGN, CANDIDATES

collect_ignore_glob = [] if find_spec("dash_mp_components") else ["test_*.py"]


@pytest.fixture
def filled(databases):
    """A database with a campaign and its candidates."""
    with databases.store("campaigns", key="name") as store:
        store.update([{"name": CAMPAIGN.name, "settings": CAMPAIGN.model_dump(mode="json")}])
    with databases.store("candidates", key="candidate_id") as store:
        store.update([encode(candidate) for candidate in CANDIDATES])
    return databases
