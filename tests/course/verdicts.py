"""What the tests of the checks ask of a verdict."""


def says(result, *parts: str) -> bool:
    """True where a verdict is "not right yet" and its text holds every part."""
    assert not result and result.verdict == "not right yet", result
    assert all(part in result.text for part in parts), result
    return True
