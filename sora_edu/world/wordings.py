"""The words of the toy world's captions: for each meaning its wordings, the first of which is the canonical one.

(lesson 01)
"""

SHAPE_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop"),
}
COLOUR_WORDS = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "sapphire"),
    "yellow": ("yellow", "lemon"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "orange": ("orange", "tangerine"),
    "white": ("white",),
}
SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "mid sized"),
    "large": ("large", "big", "huge"),
}
MOTION_WORDS = {
    "still": ("stays still", "does not move", "rests"),
    "left": ("moves left", "goes left", "slides to the left"),
    "right": ("moves right", "goes right", "slides to the right"),
    "up": ("moves up", "goes up", "rises"),
    "down": ("moves down", "goes down", "sinks"),
    "falls": ("falls", "drops", "is dropped"),
    "bounces": ("bounces", "bounces off the floor", "hops"),
    "orbits": ("orbits", "moves in a circle", "goes round in a circle"),
    "grows": ("grows", "gets bigger", "expands"),
    "shrinks": ("shrinks", "gets smaller", "contracts"),
}

BEHIND_WORDS = ("passes behind a bar", "moves behind a bar", "goes behind a bar")
PAIR_FORMS = ("{first} and {second}", "{first} while {second}")
COLLIDE_FORMS = ("{first} collides with {second}", "{first} hits {second}", "{first} bumps into {second}")
GROUND_FORMS = (
    "{what} on a {ground} background",
    "{what} against a {ground} background",
    "{what} in front of a {ground} background",
    "on a {ground} background, {what}",
)
PAN_FORMS = (
    "{what}, the camera pans {side}",
    "{what}, the camera moves to the {side}",
    "{what} while the camera pans {side}",
)

# Other forms of the grammar's words that a reader may type.
INFLECTIONS = {
    form: word
    for word, forms in {
        "moves": "moving moved", "goes": "going go went", "slides": "sliding slide slid", "rests": "resting rest",
        "stays": "staying stay stayed", "rises": "rising rise rose", "sinks": "sinking sink sank",
        "falls": "falling fall fell", "drops": "dropping drop", "bounces": "bouncing bounce bounced",
        "hops": "hopping hop hopped", "orbits": "orbiting orbit orbited circling", "grows": "growing grow grew",
        "gets": "getting get got becomes becoming", "expands": "expanding expand expanded",
        "shrinks": "shrinking shrink shrank", "contracts": "contracting contract contracted",
        "collides": "colliding collide collided", "hits": "hitting hit", "bumps": "bumping bump bumped",
        "passes": "passing pass passed", "pans": "panning pan panned", "is": "being are was were",
        "up": "upward upwards", "down": "downward downwards", "left": "leftward leftwards",
        "right": "rightward rightwards", "round": "around", "bigger": "larger", "grey": "gray",
        "disc": "disk discs disks",
        "circle": "circles", "ball": "balls", "square": "squares", "box": "boxes", "triangle": "triangles",
        "star": "stars", "ring": "rings", "hoop": "hoops", "medium": "midsized midsize middling",
    }.items()
    for form in forms.split()
}  # fmt: skip
