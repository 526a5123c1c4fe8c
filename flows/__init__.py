"""Workflows: jobflow Makers that run the science of gan_htvs and the calculations of atomate2."""
