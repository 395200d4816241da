"""supervisord inside this process: it starts, restarts and stops, and we say what a person needs to know."""

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from supervisor import events
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates
from supervisor.supervisord import Supervisor

from local import KEYS
from local.ports import LOOPBACK
from local.processes import LOGS

READY_WITHIN_SECONDS = 180  # the first start of a clone compiles everything, perhaps on a small machine
# How long a signal or a death may go unnoticed. Supervisor's own second adds up to five when stopping.
LOOK_EVERY_SECONDS = 0.2
LAST_LINES = 15


def serve(configuration: Path, *, port: int, on_ready: Callable[[], None]) -> bool:
    """Run everything until SIGINT or SIGTERM. False if it did not become ready, and was stopped for that."""
    options = ServerOptions()
    options.realize(["-c", str(configuration)])
    options.first, options.test = True, False
    # The worker has them by now, through its section. What is forked from here on inherits the rest.
    for name in KEYS:
        os.environ.pop(name, None)
    attendant = _Attendant(options, port, on_ready)
    with contextlib.suppress(ExitNow):
        attendant.main()
    return not attendant.failed


def end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.exists() else []
    return "\n    ".join([f"The end of {log}:", *(lines or ["(empty)"])])


class _Attendant(Supervisor):
    """Supervisor's loop, and beside it a thread that waits for the web to answer."""

    def __init__(self, options: ServerOptions, port: int, on_ready: Callable[[], None]) -> None:
        super().__init__(options)
        self.port = port
        self.on_ready = on_ready
        self.failed = False
        self.troubled: set[str] = set()
        self.hangup = signal.getsignal(signal.SIGHUP)

    def runforever(self) -> None:
        # run() has just cleared all subscriptions and taken over all signals.
        events.subscribe(events.ProcessStateEvent, self._tell)
        events.subscribe(events.SupervisorStoppingEvent, lambda _: print("Stopping", flush=True))
        if self.hangup == signal.SIG_IGN:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup make run
        poll = self.options.poller.poll
        self.options.poller.poll = lambda timeout: poll(LOOK_EVERY_SECONDS)
        threading.Thread(target=self._watch, args=[os.getppid()], daemon=True).start()
        super().runforever()

    def _tell(self, event: events.ProcessStateEvent) -> None:
        name, failures = event.process.config.name, event.process.backoff
        died = isinstance(event, events.ProcessStateExitedEvent)
        if died or (isinstance(event, events.ProcessStateBackoffEvent) and failures in {1, 10, 100, 1000}):
            self.troubled.add(name)
            print(f"{name} stopped by itself and is started again; see {LOGS}/{name}.log", flush=True)

    def _watch(self, parent: int) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline:
                self._give_up()
                return
            time.sleep(0.2)
        if not self.stopping:
            self.on_ready()
        if "MAKELEVEL" in os.environ:
            # A make that is killed outright passes no signal on.
            while os.getppid() == parent:
                time.sleep(1)
            self._stop()

    def _is_ready(self) -> bool:
        return self._answer("/healthz")[0] == self._answer("/readyz")[0] == 200

    def _answer(self, path: str) -> tuple[int, str]:
        # Not urllib: it would ask a proxy of the environment for a page of this machine.
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error) or type(error).__name__
        finally:
            connection.close()

    def _give_up(self) -> None:
        self.failed = True
        print(f"Not ready after {READY_WITHIN_SECONDS} seconds. /readyz says: {self._answer('/readyz')[1]}")
        for name in sorted(self.troubled | self._not_running()) or ["web-0", "worker"]:
            print(f"{name}: {end_of(LOGS / f'{name}.log')}")
        self._stop()

    def _not_running(self) -> set[str]:
        return {
            process.config.name
            for group in self.process_groups.values()
            for process in group.processes.values()
            if process.state != ProcessStates.RUNNING
        }

    def _stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
