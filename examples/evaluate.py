"""Validity, stability, novelty and diversity of your own generated structures."""

from ase.build import bulk

from gan_htvs.evaluation import evaluate

# Structures of ASE or pymatgen, from any generator; here three polymorphs of MgO, one twice.
structures = [
    bulk("MgO", "rocksalt", a=4.3),
    bulk("MgO", "zincblende", a=4.6),
    bulk("MgO", "cesiumchloride", a=2.7),
    bulk("MgO", "zincblende", a=4.7),
]
evaluation = evaluate(structures)
for sample in evaluation.samples:
    print(f"{sample.outcome} {sample.decomposition_energy:.3f} eV/atom, novel: {sample.novel}")
for at in evaluation.overall.thresholds:
    print(f"within {at.threshold} eV/atom: stable {at.stable.k}/{at.stable.n}, S.U.N. {at.sun.k}")
print("prototypes:", evaluation.overall.diversity.prototypes)
