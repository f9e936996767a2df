"""The command kernel: command in; rows, events and after-commit effects out."""

from .dispatch import Kernel, create_kernel

__all__ = ["Kernel", "create_kernel"]
