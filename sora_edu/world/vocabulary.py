"""What the toy world is made of, by name; every index elsewhere points into these tuples (lesson 01)."""

from sora_edu.errors import InputError, shown

SHAPES = ("circle", "square", "triangle", "star", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
SIZES = ("small", "medium", "large")
MOTIONS = ("still", "left", "right", "up", "down", "falls", "bounces", "orbits", "grows", "shrinks")
SCENES = ("single", "pair", "collides", "behind")
BACKGROUNDS = ("black", "grey", "navy")

# Never shown in training: the test of composition. Each shape, and most colours, lose one partner only.
HELD_OUT_SHAPE_COLOUR = (
    ("circle", "yellow"),
    ("square", "purple"),
    ("triangle", "cyan"),
    ("star", "green"),
    ("ring", "orange"),
)
HELD_OUT_COLOUR_MOTION = (
    ("red", "orbits"),
    ("blue", "falls"),
    ("green", "left"),
    ("yellow", "up"),
    ("purple", "shrinks"),
    ("white", "bounces"),
)


def check_name(value: object, names: tuple[str, ...]) -> int:
    """The index of a name, or an InputError that lists the known ones."""
    if not isinstance(value, str) or value not in names:
        raise InputError(f"{shown(value)} is not in this world; use one of {', '.join(names)}")
    return names.index(value)
