"""What the tests of the checks ask of a verdict."""


def says(result, *parts: str) -> bool:
    """True where a verdict is "not right yet" and its text holds every part."""
    assert not result and result.verdict == "not right yet", result
    said = f"{result.text} {result.recipe}"  # the recipe is there for those who ask
    assert all(part in said for part in parts), said
    return True
