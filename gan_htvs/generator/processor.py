"""Device and floating-point precision of a training."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

import torch

from gan_htvs.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gan_htvs.generator.presets import TrainingParameters

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Processor:
    """Device and precision of the matrix products; weights and sums stay float32.

    Attributes
    ----------
    device
        Device of weights and batches.
    precision
        float32 or bfloat16.
    """

    device: torch.device
    precision: torch.dtype

    @classmethod
    def choose(cls, device: DeviceName = "auto", precision: PrecisionName = "auto") -> Processor:
        """Choose device and precision; ``auto`` uses a GPU and bfloat16 if available.

        Raises
        ------
        UserError
            If a name is unknown or PyTorch cannot use a GPU.
        """
        settings = {"device": (device, DeviceName), "precision": (precision, PrecisionName)}
        for setting, (name, names) in settings.items():
            if name not in get_args(names):
                choices = ", ".join(get_args(names))
                raise UserError(f"generator.{setting}: {name!r} is unknown; use one of {choices}.")
        has_gpu = torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            build = "has no CUDA" if torch.version.cuda is None else "finds no working GPU"
            raise UserError(
                f"generator.device: 'cuda' was requested, but PyTorch {torch.__version__} {build}; "
                "use 'auto' or 'cpu', or install a CUDA build on a machine with a GPU."
            )
        on_gpu = device == "cuda" or (device == "auto" and has_gpu)
        chosen = torch.device("cuda" if on_gpu else "cpu")
        if precision == "auto":
            precision = "bfloat16" if _multiplies_bfloat16(chosen) else "float32"
        return cls(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32)

    def __str__(self) -> str:
        return f"{self.device.type} {str(self.precision).removeprefix('torch.')}"

    @property
    def compiles(self) -> bool:
        """Whether networks are compiled for this device, which needs Triton."""
        return self.device.type == "cuda" and find_spec("triton") is not None

    def arithmetic(self) -> torch.autocast:
        """Return a context that computes matrix products in this precision."""
        enabled = self.precision != torch.float32
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def memory_shortage_as_user_error(parameters: TrainingParameters) -> Iterator[None]:
    """Convert out-of-memory errors to a UserError.

    Raises
    ------
    UserError
        If networks or batches do not fit into memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_shortage = isinstance(error, MemoryError | torch.OutOfMemoryError)
        # On the CPU, PyTorch raises a plain RuntimeError.
        if not is_shortage and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"training: not enough memory for width {parameters.width:g}, batch_size "
            f"{parameters.batch_size} and coverage_tries {parameters.coverage_tries}; lower them "
            "in generator.overrides."
        ) from error


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - no public name
