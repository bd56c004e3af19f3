"""Who watches a training from outside: stop signals, the clock, and `status.json`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from job.system.ranks import Ranks
from job.training.trackers import Reporter

HEARTBEAT_EVERY_S = 5.0
"""How often a running stage reports its progress."""


class EvaluationStopped(Exception):
    """Leaves an evaluation half done; the resumed run does it again."""


@dataclass(frozen=True)
class Supervision:
    """What a training obeys and reports to."""

    stop_asked: Callable[[], object] = lambda: False
    """True once a stop signal has arrived."""
    report: Callable[..., None] = lambda **_: None
    """Takes step, total_steps, percent, eta_s, loss, examples_per_s and last_checkpoint, every few seconds."""
    keep_logged: Callable[[], None] = lambda: None
    """Called before a checkpoint: what was logged by now will not be logged again, so it must be on the disk."""
    micro_batch_changed: Callable[[int], None] = lambda _: None
    """Takes the new micro-batch where the memory was too small for the last one."""
    score_answers: Callable[[int], dict[str, float]] = lambda _: {}
    """Scores of the model's answers after so many steps, by name, beside its loss on the held-out rows."""
    gives_up: Callable[[Sequence[dict[str, float]]], bool] = lambda _: False
    """Whether to end after these evaluations, the entries of the history: by them alone, so that a resumed run ends there too."""
    checkpoint_s: float = float("inf")
    """Seconds after which a checkpoint is due, whatever the steps say."""
    deadline: float = float("inf")
    """When to stop learning, by time.monotonic()."""
    grace_s: float = 30
    """What a machine gives between SIGTERM and the end."""


@dataclass(frozen=True)
class Surroundings:
    """What a training reports to and obeys."""

    supervision: Supervision = field(default_factory=Supervision)
    reporters: Sequence[Reporter] = ()
    ranks: Ranks = field(default_factory=Ranks)
