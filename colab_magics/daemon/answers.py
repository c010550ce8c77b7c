"""Answering those who ask for a session, in a thread of its own: neither jobs nor looks wait for it."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from colab_magics.daemon.offer import Offer
from colab_magics.daemon.pace import Pushes
from colab_magics.daemon.telemetry import describe_gpu
from colab_magics.errors import StoreError, TunnelError
from colab_magics.jobs.asking import Answer, Ask
from colab_magics.jobs.spec import Json
from colab_magics.store.mailbox import Mailbox
from colab_magics.tunnel import sealing

logger = logging.getLogger(__name__)

NOT_ALLOWED = (
    "its owner offers no session: start it with --expose loopback (for people on that machine), "
    "--expose url:https://HOST --expose-port PORT (a tunnel that you run), --expose ssh:USER@RELAY, or "
    "--expose colab (an official runtime of google-colab-cli)"
)
TRY_AGAIN_S = 2.0
LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Reception:
    """Where a daemon is asked for a session, and what it offers then; None if nothing."""

    mailbox: Mailbox
    offer: Offer | None

    @property
    def offers(self) -> str:
        """How a session is reached, as the sign of life says it."""
        return self.offer.exposure.kind if self.offer is not None else ""


class Answers:
    """Takes asks from the loop, opens the session that is offered, and answers."""

    def __init__(
        self, reception: Reception | None, worker: str, pushes: Pushes, *, now: Callable[[], float]
    ) -> None:
        """Args: the reception (None: nobody can ask), this daemon's name, its push budget, Unix seconds."""
        self._reception, self._worker, self._pushes, self._now = reception, worker, pushes, now
        self._known: set[str] = set()
        self._waiting = 0
        self._asks: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="colab-answers", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether somebody is here, or was heard asking: a daemon that somebody uses is not idle."""
        offer = self._reception.offer if self._reception else None
        return self._waiting > 0 or (offer is not None and offer.is_open)

    def hear(self, asks: Mapping[str, Ask]) -> None:
        """Take what the last look showed. An ask that has expired is deleted, whoever was asked."""
        now = self._now()
        for ask in asks.values():
            if ask.ask_id not in self._known and (ask.worker == self._worker or ask.expires_at < now):
                self._known.add(ask.ask_id)
                with self._lock:
                    self._waiting += 1
                self._asks.put(ask)
        self._known &= set(asks)
        if self._known and self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Answer nobody any more, and end the session that is open."""
        self._closing.set()
        self._asks.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        assert self._reception is not None
        offer = self._reception.offer
        try:
            while not self._closing.is_set():
                try:
                    ask = self._asks.get(timeout=LOOK_S)
                except queue.Empty:
                    if offer is not None:
                        offer.rest()
                    continue
                if ask is not None:
                    self._attend(ask, self._reception)
                    with self._lock:
                        self._waiting -= 1
        finally:
            if offer is not None:
                offer.close()

    def _attend(self, ask: Ask, reception: Reception) -> None:
        try:
            if ask.expires_at < self._now():
                logger.info("an ask for a session with %s came too late", ask.worker)
                self._until_heard(ask, lambda: reception.mailbox.clear(ask.ask_id))
                return
            sealing.seal({}, to=ask.key)  # nothing is opened for somebody who could not read the answer
            content = self._receive(reception.offer)
            told = {**content, "ask": ask.ask_id, "worker": self._worker}
            sealed = sealing.seal(told, to=ask.key)
            answer = Answer(ask_id=ask.ask_id, worker=self._worker, sealed=sealed, expires_at=ask.expires_at)
            was_heard = self._until_heard(ask, lambda: reception.mailbox.answer(answer))
            if was_heard:
                logger.info("a session was asked for: %s", content.get("error") or "it is open")
            elif content.get("is_new") and reception.offer is not None:
                logger.info("a session was asked for, and nobody waits for it any more")
                reception.offer.close()
            reception.mailbox.sweep(now=self._now())
        except (StoreError, ValueError) as error:
            logger.warning("an ask for a session was not answered: %s", error)
        except Exception:  # a bug of ours must not end what answers the next one
            logger.exception("an ask for a session was not answered")

    def _receive(self, offer: Offer | None) -> dict[str, Any]:
        """Open what is offered; what the answer holds."""
        if offer is None:
            return {"error": NOT_ALLOWED}
        try:
            opened = offer.open(owner_pid=os.getpid())
        except TunnelError as error:
            return {"error": str(error)}
        gpu = describe_gpu(os.environ.get("CUDA_VISIBLE_DEVICES"))
        return {**opened, "expose": offer.exposure.kind, "note": note_on_sharing(gpu)}

    def _until_heard(self, ask: Ask, push: Callable[[], Any]) -> bool:
        """Push as the budget allows, again while nobody answers and somebody waits; whether it landed."""
        while not self._closing.wait(self._pushes.wait_s(urgent=True)):
            try:
                landed = push()
                self._pushes.spent()
                return landed is not False
            except StoreError as error:
                if self._now() > ask.expires_at:
                    raise
                logger.warning("%s; trying again", error)
                self._closing.wait(TRY_AGAIN_S)
        return False


def note_on_sharing(gpu: Mapping[str, Json] | None) -> str:
    """What whoever answers should know of the jobs. `gpu` is as `telemetry.describe_gpu` says."""
    if gpu is None:
        return "Jobs of the queue go on beside the session; both share the machine, which has no GPU."
    if gpu["count"] == 1:
        return f"Jobs of the queue go on beside the session; both share the one GPU, {gpu['name']}."
    return f"Jobs of the queue go on beside the session; both see the same {gpu['count']} GPUs."
