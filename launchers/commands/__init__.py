"""The commands of ``gan-htvs``, by what they are about."""
