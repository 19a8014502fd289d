"""sora_edu: a small text-to-video diffusion transformer, a folder for each part and a module for each concept."""

from sora_edu import torchvision_repair

__version__ = "0.1.0"

torchvision_repair.install()  # costs nothing until torchvision is imported
