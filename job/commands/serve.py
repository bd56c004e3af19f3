"""The command `serve`: a page to try a run's adapter beside its base, and the same for programs that speak OpenAI's protocol."""

import logging
import os
import threading

from job.config.environment import STRICT
from job.config.settings import Settings
from job.pipeline.predictor import Predictor
from job.pipeline.trained_adapter import TrainedAdapter
from job.serving.asking import Asking
from job.serving.batches import Batches
from job.serving.http import Server
from job.serving.openai import BASE, Completions
from job.serving.page import Page
from job.serving.sides import Sides
from job.serving.site import Site
from job.serving.tables import Tables

log = logging.getLogger(__name__)

USUAL_LIMIT = 512
"""Tokens of an input that the batch is sized for, where a model takes any number."""
MORE_CONNECTIONS = 64
"""Connections beside those of questions that wait: for the page, and to tell others that the line is full."""
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(settings: Settings) -> None:
    """Answers until a signal says stop; what is being answered then is finished first, if GRACE_S is enough for it."""
    site = make_site(settings)
    server = Server((settings.serve_host, settings.serve_port), site.answer, settings.serve_queue + MORE_CONNECTIONS)
    try:
        _tell(settings, site.completions.name)
        _answer_until_stopped(server)
        finished = server.drain(settings.grace_s)
        log.info("stopped%s", "" if finished else f"; some questions were not answered within GRACE_S={settings.grace_s:g}")
    finally:
        site.tables.close()
    logging.shutdown()
    os._exit(0)  # nothing is left to do, and threads that end in the middle of torch's work would abort the process


def make_site(settings: Settings) -> Site:
    """What answers for the run that the settings name, its model in memory."""
    adapter = TrainedAdapter.of(settings)
    predictor = Predictor.of(settings, adapter, adapter.limit or USUAL_LIMIT)
    log.info("loading %s", adapter.record.base_model)
    model, batch_size = predictor.load(), predictor.decoding.batch_size
    sides = Sides(model, adapter.with_own_tokenizer().tokenizer, predictor.decoding)
    batches = Batches(sides.answer, batch_size, settings.serve_queue)
    asking = Asking(adapter, batches)
    token = settings.serve_token.get_secret_value() if settings.serve_token else None
    name = adapter.folder.name if adapter.folder.name != BASE else "adapter"
    tables = Tables(asking, adapter.with_own_tokenizer(), batch_size, settings.sheet)
    return Site(Page(asking), Completions(asking, name), tables, batches, settings.serve_names, token)


def _answer_until_stopped(server: Server) -> None:
    """Returns after a stop signal, which raises KeyboardInterrupt in this thread."""
    threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()


def _tell(settings: Settings, name: str) -> None:
    host = "localhost" if settings.serve_host in (*LOCAL, "0.0.0.0", "::") else settings.serve_host
    if settings.serve_host not in LOCAL and settings.serve_token is None and STRICT not in os.environ:  # compose guards its port
        log.warning("SERVE_HOST=%s: whoever reaches this port may ask. SERVE_TOKEN asks for a password", settings.serve_host)
    log.info("try it: http://%s:%d", host, settings.serve_port)
    log.info('programs: http://%s:%d/v1, model "%s" or "%s"', host, settings.serve_port, name, BASE)
