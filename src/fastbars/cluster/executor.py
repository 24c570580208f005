"""Tasks on a Ray cluster, as a `concurrent.futures.Executor`.

    submit(function, arguments) -> a Ray task -> any node -> Future
                                     +--its worker or node died--> again, elsewhere, ATTEMPTS times in all

The function runs where Ray places it: it must be one that all nodes can import, and see the same files. A task may run
twice at once for a moment, where a node is cut off and its task begun anew: what it does must stand that, as a unit of
`fastbars.archives.build` does, which is written beside and renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from fastbars.errors import FastbarsError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["ATTEMPTS", "RayExecutor", "connect"]

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 20  # of one task: a file that kills each worker that reads it must end


def connect(address: str, **options: Any) -> ModuleType:
    """Join a Ray cluster, or start a local one. Returns the module `ray`.

    Args:
        address: "ray://HOST:PORT" of a client server, "HOST:PORT" of a head, "auto" for the one that this host is part
            of, "local" for one of this process's own.
        options: passed to `ray.init`.

    Raises:
        FastbarsError: ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray  # noqa: PLC0415 285 MB, for those who ask for it
    except ImportError:
        raise FastbarsError('ray is not installed: pip install "fastbars[ray]"') from None
    module: ModuleType = ray  # typed here, as checkers know no ray where it is not installed
    if ray.is_initialized():
        return module
    if "://" in address and urlsplit(address).scheme != "ray":
        raise FastbarsError(
            f"{address!r:.200} is no address of a Ray cluster: ray://HOST:PORT, HOST:PORT, auto or local"
        )
    try:
        ray.init(
            address=None if address == "local" else address,
            configure_logging=False, log_to_driver=False, include_dashboard=False if address == "local" else None,
            **options,
        )  # fmt: skip
    except (ConnectionError, ValueError, TimeoutError, RuntimeError) as error:
        raise FastbarsError(f"no Ray cluster at {address!r:.200}: {error}") from error
    return module


class RayExecutor(Executor):
    """Runs each call as a Ray task, on any node of the cluster.

    Args:
        address, options: as `connect` takes them.

    Raises:
        FastbarsError: as `connect`.
    """

    def __init__(self, address: str = "auto", **options: Any) -> None:
        self._ray: Any = connect(address, **options)
        self._tasks: dict[Future[Any], Any] = {}  # future -> reference

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function(*args, **kwargs)` on some node.

        Returns:
            Its future; `result()` raises what the function has raised, or FastbarsError where its workers have died
            ATTEMPTS times. One that is cancelled runs no more, where it had not begun.
        """
        name = getattr(function, "__name__", "task")
        remote = self._ray.remote(name=name, max_retries=ATTEMPTS - 1, scheduling_strategy="SPREAD")(_call)
        reference = remote.remote(function, *args, **kwargs)
        future: Future[T] = Future()
        self._tasks[future] = reference
        future.add_done_callback(self._forget)
        reference.future().add_done_callback(lambda done: self._finish(future, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what was submitted, or cancel it. The cluster goes on."""
        waiting = list(self._tasks)
        if cancel_futures:
            for future in waiting:
                future.cancel()
        elif wait:
            for future in waiting:
                future.exception()

    def _finish(self, future: Future[T], done: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            future.set_exception(error.cause or error)
        else:
            lost = FastbarsError(f"a task was begun {ATTEMPTS} times at most, and its worker died each time: {error}")
            lost.__cause__ = error
            future.set_exception(lost)

    def _forget(self, future: Future[Any]) -> None:
        reference = self._tasks.pop(future, None)
        if future.cancelled() and reference is not None:
            self._ray.cancel(reference, force=False)


def _call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    # Ray takes Python functions alone, and built-in ones are callables too.
    return function(*args, **kwargs)
