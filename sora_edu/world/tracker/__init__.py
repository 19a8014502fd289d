"""The tracker: from pixels back to shapes, colours and motions, the ruler of every result."""
