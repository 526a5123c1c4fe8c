"""The composition-conditioned crystal GAN: networks, training, checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["TrainedGenerator", "load"],
        "presets": ["TrainingParameters", "training_parameters"],
        "training": ["train"],
    },
)
