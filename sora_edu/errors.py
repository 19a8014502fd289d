"""What can go wrong because of what a user gave: one family of exceptions, each naming value, cause and mend."""


class SoraError(Exception):
    """Base of every error that the library raises on purpose; the command line prints it without a traceback."""


class InputError(SoraError, ValueError):
    """A value, size or option that cannot be used; the message says what was got, what fits, and how to mend it."""


class PromptError(InputError):
    """A prompt that cannot be generated from: empty, too long, or without a single known word."""


class MediaError(InputError):
    """An image or video file that cannot be read or written."""


class CheckpointError(InputError):
    """A checkpoint that is missing, truncated, altered, or made for another model."""


class TrainingError(SoraError):
    """A training run that cannot start or go on: a folder in use, a disk that is full, a loss that is not finite."""


class OtherFailed(SoraError):
    """Another process of this training failed first, and says what went wrong; this one has nothing to add."""


class Stopped(Exception):
    """Not an error: a training was asked to stop, saved its state, and can go on from there with ``resume``.

    signal: the number of the signal that asked, or None where the time was up.
    """

    def __init__(self, signal: int | None = None):
        super().__init__("the time is up" if signal is None else f"stopped by signal {int(signal)}")
        self.signal = signal


class RunWarning(UserWarning):
    """A training goes on, but not as expected: more slowly, from an older state, or with files made again."""


class PromptWarning(UserWarning):
    """A part of a prompt that the model will not see; the command line prints the message alone."""


class CutPromptWarning(PromptWarning):
    """A prompt is longer than the model reads; the message names the words that are lost."""


class UnknownWordWarning(PromptWarning):
    """A prompt holds words that the vocabulary lacks; the message names them and their nearest known neighbours."""


def printable(text: str, *, keep: str = "") -> str:
    """Text whose control characters (line breaks, turns of direction, escapes) are spelt out, but for those to keep."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shown(value) -> str:
    """The value for a message: short, even where it is a number of ten thousand digits."""
    if isinstance(value, int) and abs(value) >= 10**50:
        return f"<{value.bit_length()} bits>"
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
