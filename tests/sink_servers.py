"""Real servers for the tests of sinks, each a process of our own: started when first asked for, killed, started again.

They keep their data in a folder of their own and listen on a free port of the loopback. PostgreSQL refuses to run as
root, so under root it runs as another user. What is not installed is skipped with a message, and fails in CI.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trustme

USER, PASSWORD = "fastbars", "pass-word-of-a-test"
"""What each server asks for."""


def program(name: str, package: str) -> str:
    """Path of a server's program; the test is skipped where it is not installed, and fails in CI."""
    places = [found for folder in ("/usr/lib/postgresql/*/bin", "/usr/sbin") for found in glob.glob(f"{folder}/{name}")]
    found = shutil.which(name) or next(iter(sorted(places, reverse=True)), None)
    if found is None:
        message = f"{name} is not installed: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port


class ServerProcess:
    """A server as a process of its own.

    Args:
        command: of the server, which stays in the foreground.
        is_ready: whether it takes connections.
        user: whose process it is; this one's if None.
    """

    def __init__(self, command: Sequence[str], is_ready: Callable[[], bool], user: str | None = None) -> None:
        self._command = command
        self._is_ready = is_ready
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, within_s: float = 30.0) -> None:
        """Start it, and wait until it takes connections. Does nothing where it runs."""
        if self._process is not None:
            return
        until = time.monotonic() + within_s
        while True:
            if self._process is None or self._process.poll() is not None:
                # Also again: after a kill PostgreSQL does not start before the last of its processes has ended.
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True, user=self._user, group=self._user,
                    extra_groups=None if self._user is None else [],
                )  # fmt: skip
            if self._is_ready():
                return
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"{self._command[0]} takes no connections within {within_s} s")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It says nothing more, and its connections stay, as when the network is cut."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _answers(port: int, said: bytes = b"", answer: bytes = b"") -> bool:
    # Whether a server on that port takes a connection, and answers so to what is said.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as own:
            own.sendall(said)
            return not answer or answer in own.recv(4096)
    except OSError:
        return False


def _folder(user: str | None) -> Path:
    # Not pytest's, which no other user may look into.
    folder = Path(tempfile.mkdtemp(prefix="fastbars-"))
    if user is not None:
        shutil.chown(folder, user, user)
    return folder


class Certificates:
    """Of an authority of our own, and a server's on the loopback, as files in a folder."""

    def __init__(self, folder: Path, user: str | None = None) -> None:
        authority = trustme.CA()
        own = authority.issue_cert("127.0.0.1", "localhost")
        self.ca, self.certificate, self.key = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        own.cert_chain_pems[0].write_to_path(self.certificate)
        own.private_key_pem.write_to_path(self.key)
        for path in (self.ca, self.certificate, self.key):
            os.chmod(path, 0o600)
            if user is not None:
                shutil.chown(path, user, user)


class PostgresqlServer(ServerProcess):
    """PostgreSQL, with one database a test: see `url`."""

    def __init__(self) -> None:
        initdb, postgres = program("initdb", "postgresql"), program("postgres", "postgresql")
        user = None
        if os.getuid() == 0:
            users = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in users else "nobody"
        self.folder = _folder(user)
        self.port = free_port()
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            [initdb, "-D", f"{self.folder}/data", "-U", USER, "--pwfile", str(password), "--auth=scram-sha-256",
             "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
        self.certificates = Certificates(self.folder, user)
        # Without fsync a killed server loses nothing: what it wrote is in the page cache.
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
            "shared_buffers": "32MB", "max_wal_size": "256MB", "ssl": "on",
            "ssl_cert_file": self.certificates.certificate, "ssl_key_file": self.certificates.key,
        }  # fmt: skip
        command = [postgres, "-D", f"{self.folder}/data"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(command, self._takes_connections, user)

    def _takes_connections(self) -> bool:
        # The packet of a client that asks to begin: refused by SQLSTATE 57P03 for as long as it starts.
        body = (196608).to_bytes(4, "big") + f"user\0{USER}\0\0".encode()
        return _answers(self.port, (len(body) + 4).to_bytes(4, "big") + body, b"SCRAM")

    def url(self, database: str = "postgres", user: str = USER, password: str = PASSWORD) -> str:
        """Of a database in it."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(ServerProcess):
    """Redis, which appends each write to its file before it answers."""

    def __init__(self) -> None:
        self.folder, self.port, self.tls_port = _folder(None), free_port(), free_port()
        self.certificates = own = Certificates(self.folder)
        command = [
            program("redis-server", "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
            str(self.folder), "--requirepass", PASSWORD, "--appendonly", "yes", "--appendfsync", "always", "--save", "",
            "--tls-port", str(self.tls_port), "--tls-cert-file", own.certificate, "--tls-key-file", own.key,
            "--tls-ca-cert-file", own.ca, "--tls-auth-clients", "no",
        ]  # fmt: skip
        super().__init__(command, lambda: _answers(self.port, f"AUTH {PASSWORD}\r\nPING\r\n".encode(), b"PONG"))

    def url(self, path: str = "/0", password: str = PASSWORD) -> str:
        """Of it."""
        return f"redis://:{password}@127.0.0.1:{self.port}{path}"

    def remove(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class NatsServer(ServerProcess):
    """NATS with JetStream, over TLS if asked for."""

    def __init__(self, *, is_secure: bool = False) -> None:
        self.folder, self.port = _folder(None), free_port()
        self.certificates = own = Certificates(self.folder)
        command = [
            program("nats-server", "nats-server"), "--addr", "127.0.0.1", "--port", str(self.port), "--jetstream",
            "--store_dir", str(self.folder), "--user", USER, "--pass", PASSWORD,
        ]  # fmt: skip
        if is_secure:
            command += ["--tls", "--tlscert", own.certificate, "--tlskey", own.key]
        super().__init__(command, self._takes_connections)

    def _takes_connections(self) -> bool:
        said = f'CONNECT {{"verbose":false,"user":"{USER}","pass":"{PASSWORD}"}}\r\nPING\r\n'.encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as own:
                own.sendall(said)
                answer = b""
                while not (b"PONG" in answer or b'"tls_required":true' in answer) and (more := own.recv(4096)):
                    answer += more
                return bool(answer)
        except OSError:
            return False

    def url(self, user: str = USER, password: str = PASSWORD) -> str:
        """Of it."""
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    def remove(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class KafkaServer(ServerProcess):
    """Three brokers of librdkafka's mock cluster, which speaks the protocol of Kafka and keeps its data in memory."""

    def __init__(self) -> None:
        self.folder = _folder(None)
        self._file = self.folder / "brokers"
        super().__init__([sys.executable, __file__, "kafka", str(self._file)], self._file.exists)

    @property
    def brokers(self) -> str:
        """HOST:PORT of each, separated by commas."""
        return self._file.read_text()

    def url(self, topic: str = "bars") -> str:
        """Of a topic in it; what does not answer is given up after a second."""
        return f"kafka://{self.brokers}/{topic}?message.timeout.ms=1500&socket.timeout.ms=1000"

    def remove(self) -> None:
        """Kill it."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class ClickhouseServer(ServerProcess):
    """The engine of ClickHouse (chdb) in a process of its own, behind as much of its HTTP interface as clients use."""

    def __init__(self) -> None:
        pytest.importorskip("chdb")
        self.folder, self.port = _folder(None), free_port()
        command = [sys.executable, __file__, "clickhouse", str(self.folder), str(self.port)]
        super().__init__(command, lambda: _answers(self.port, b"GET /ping HTTP/1.0\r\n\r\n", b"200 OK"))

    def url(self, database: str = "default", password: str = PASSWORD) -> str:
        """Of a database in it."""
        return f"clickhouse://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _serve_clickhouse(folder: str, port: str) -> None:
    from aiohttp import BasicAuth, web

    engine: Any = import_module("chdb.session")  # has no types
    session = engine.Session(f"{folder}/data")

    async def answer(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not given or BasicAuth.decode(given) != BasicAuth(USER, PASSWORD):
            text = f"Code: 516. DB::Exception: {USER}: Authentication failed. (AUTHENTICATION_FAILED)"
            return web.Response(status=403, text=text, headers={"X-ClickHouse-Exception-Code": "516"})
        settings = dict(request.query)
        sql = "\n".join(filter(None, (settings.pop("query", ""), (await request.read()).decode())))
        database = settings.pop("database", "default")
        try:
            session.query(f"use `{database}`")
            for name in ("date_time_input_format",):
                if name in settings:
                    session.query(f"set {name} = '{settings[name]}'")
            return web.Response(body=session.query(sql, "TabSeparated").bytes())
        except Exception as error:  # noqa: BLE001 the engine's, told as the server would
            return web.Response(status=500, text=str(error))

    app = web.Application(client_max_size=2**28)
    app.router.add_get("/ping", lambda _: _ok())
    app.router.add_route("*", "/", answer)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, handle_signals=False)


async def _ok() -> Any:
    from aiohttp import web

    return web.Response(text="Ok.\n")


def _serve_kafka(file: Path) -> None:
    from confluent_kafka import Producer

    client = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 3})
    brokers = client.list_topics(timeout=10).brokers.values()
    own = file.with_name("own")
    own.write_text(",".join(f"{each.host}:{each.port}" for each in brokers))
    own.rename(file)
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "kafka":
        _serve_kafka(Path(sys.argv[2]))
    else:
        _serve_clickhouse(*sys.argv[2:])
