"""Lets `from torchvision import transforms` work where torchvision's compiled operators cannot load.

The torchvision of the package index is built for a CUDA torch. Beside a CPU-only torch its compiled library does not
load, and its import ends in `operator torchvision::nms does not exist`, because it describes the shapes of two
operators (nms, qnms) that nobody declared. Declaring them is enough for everything but these two operators.

`import sora_edu` installs a finder that finds nothing: it watches for the import that would fail, at a moment when
torchvision has already tried to load its library, and declares what is missing then. Import sora_edu first.
"""

import sys

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_libraries = []  # a torch.library.Library withdraws its operators when it is collected


def declare_missing_operators() -> list[str]:
    """Declare those of SCHEMAS that torchvision's compiled library did not; return their names."""
    import torch

    missing = [name for name in SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(name + SCHEMAS[name])
        _libraries.append(library)
    return missing


def repaired() -> bool:
    """True if torchvision has been imported in this process and needed the repair."""
    return bool(_libraries)


class _Watcher:
    """A finder for `sys.meta_path` that acts before torchvision registers shapes, then leaves the finding to others."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision._meta_registrations":
            declare_missing_operators()


def install() -> None:
    """Watch for the import of torchvision. Calling it twice is harmless."""
    if _Watcher not in sys.meta_path:
        sys.meta_path.insert(0, _Watcher)
