"""The most stable candidates of a database, with plain pymongo.

Usage: python examples/query.py my_launchpad.yaml

The database must be running; `gan-htvs database` starts an embedded one.
"""

import sys
from pathlib import Path

import yaml
from pymongo import MongoClient

settings = yaml.safe_load(Path(sys.argv[1]).read_text())
client = MongoClient(settings["host"], settings["port"])
candidates = client[settings["name"]]["candidates"]
query = {"energy_above_hull": {"$lte": 0.08}, "origin.proposer": {"$ne": "reference_phase"}}
for candidate in candidates.find(query).sort("energy_above_hull", 1).limit(20):
    print(candidate["formula_pretty"], f"{candidate['energy_above_hull']:.3f} eV/atom")
