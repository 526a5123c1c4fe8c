"""Hull and Pourbaix diagram of your own entries, with energies of any code."""

from pymatgen.entries.computed_entries import ComputedEntry

from gan_htvs.core.pourbaix_stability import PourbaixSettings
from gan_htvs.thermodynamics.hull import ReferenceEnergy, ReferenceSet
from gan_htvs.thermodynamics.pourbaix import PourbaixAnalyzer

# Total energies in eV at one level of theory: CHGNet, and O2 of the Materials Project.
entries = [
    ComputedEntry("Mg2", -3.192),
    ComputedEntry("Mn29", -264.234),
    ComputedEntry("O2", -9.896),
    ComputedEntry("MgO", -12.627),
    ComputedEntry("MnO", -17.960),
    ComputedEntry("Mn6 O8", -122.681),
    ComputedEntry("Mn16 O24", -336.532),
    ComputedEntry("Mn2 O4", -48.557),
]
spinel = ComputedEntry("Mg2 Mn4 O8", -111.682)

references = ReferenceSet(
    entries=tuple(
        ReferenceEnergy(
            name=entry.reduced_formula,
            formula=entry.reduced_formula,
            energy_per_atom=entry.energy_per_atom,
            level_of_theory="CHGNet-0.3.0",
        )
        for entry in entries
    )
)
composition, energy = spinel.composition, spinel.energy_per_atom
print(f"decomposition energy {references.decomposition_energy(composition, energy):.3f} eV/atom")
for phase, fraction in references.decompositions([composition])[0].items():
    print(f"    {fraction:.1%} of the atoms in {phase}")

formation_energy = references.formation_energy_per_atom(composition, energy)
water = PourbaixAnalyzer(references, PourbaixSettings(potential_vs_rhe=1.5))
stability = water.stability(composition, formation_energy)
print(
    f"Pourbaix decomposition energy {stability.minimum:.3f} eV/atom, pH {stability.ph_at_minimum}"
)
print("decomposes to", *stability.decomposes_to)
