"""Names of stages, jobs, screening steps and proposers, in a module that imports fast."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

REFERENCE_PHASE: Final = "reference_phase"
"""Stored as the proposer of reference phases."""


USER: Final = "user"
"""Stored as the proposer of structures that the user provides."""


class Stage(StrEnum):
    """Names of candidates that passed no stage of the funnel.

    Other candidates have the name of the last stage that they passed, see
    :class:`gan_htvs.core.funnel_stages.FunnelStage`.
    """

    GENERATED = "generated"
    RELAXED = "relaxed"
    REJECTED = "rejected"
    FAILED = "failed"


class Step(StrEnum):
    """Kinds of job, stored in ``metadata.step``.

    ``RELEASE`` queues workflows that depend on other jobs.
    """

    TRAIN = "train"
    RELAX = "relax"
    STATIC = "static"
    ENERGY = "energy"
    REFERENCES = "references"
    PROPOSE = "propose"
    PRESCREEN = "prescreen"
    SELECT = "select"
    GATE = "gate"
    HYBRID = "hybrid"
    BAND_GAP = "band gap"
    PROPERTY = "property"
    RELEASE = "release"


CALCULATIONS = (Step.RELAX, Step.STATIC, Step.HYBRID)
"""Steps that compute one structure; their failure is a result."""


class ProposerName(StrEnum):
    """Proposers of structures."""

    GAN = "gan"
    RANDOM = "random"
    SYMMETRIC = "symmetric"
    SUBSTITUTION = "substitution"


class ScreeningStep(StrEnum):
    """Steps of the prescreen that reject structures, in order."""

    VALIDITY = "validity"
    DUPLICATE = "duplicate before relaxation"
    RELAXATION = "relaxation"
    GEOMETRY = "geometry"
    STOPPING = "early stopping"
    WINDOW = "hull window"
    RELAXED_DUPLICATE = "duplicate after relaxation"
    CONFIRMATION = "confirmation"
