"""Campaigns, training and evaluation on this machine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generator_training": ["train_campaign"],
        "pool": ["WorkerPool"],
        "proposer_evaluation": ["evaluate_checkpoint"],
        "run": ["run_campaign"],
    },
)
