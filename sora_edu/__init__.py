"""sora_edu: a small text-to-video diffusion transformer, one module for each concept of the course."""

from sora_edu import torchvision_repair

__version__ = "0.1.0"

torchvision_repair.install()  # costs nothing until torchvision is imported
