"""What a family cannot do, and the reason that the job gives for it: the tests hold that it gives it."""

CANNOT = {"prophetnet": {"train": "gives a row another loss beside longer ones"}}
"""Family -> "train" or "merge" -> what the job says."""
