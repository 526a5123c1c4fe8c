"""What runs, in which order: jobflow Makers and jobs; atomate2 does the physics jobs."""
