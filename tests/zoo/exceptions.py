"""What a family cannot do, and the reason that the job gives for it: the tests hold that it gives it."""

CANNOT: dict[str, dict[str, str]] = {}
"""Family -> "merge" or "train" -> what the job says."""
