"""Discover crystals: a composition-conditioned GAN proposes, a funnel of physics decides."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gan-htvs")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
