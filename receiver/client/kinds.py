"""Makes one definition of a call a method of both clients.

A call is written once in `calls.Calls`, as a generator of steps. `Client` returns what the steps return; `AsyncClient`
returns an awaitable of it. Type checkers see the difference, too.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from receiver.client.steps import Steps, StepsWithItems

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """Does steps before it returns."""

    def _run(self, steps: Steps[T]) -> T:
        raise NotImplementedError

    def _iterate(self, steps: StepsWithItems[T]) -> Generator[T]:
        raise NotImplementedError


class Asynchronous:
    """Does steps while it is awaited."""

    async def _run(self, steps: Steps[T]) -> T:
        raise NotImplementedError

    def _iterate(self, steps: StepsWithItems[T]) -> AsyncGenerator[T]:
        raise NotImplementedError


class call(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that returns what its steps return."""

    def __init__(self, function: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Steps[T]]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Asynchronous, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Callable[..., Any]:
        """Return the method of a client; of a class, the function, for its documentation."""
        return self._function if client is None else _bind(client, client._run, self._function)


class stream(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that yields the items that its steps give on the way."""

    def __init__(self, function: Callable[Concatenate[Any, P], StepsWithItems[T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., StepsWithItems[T]]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Generator[T]]: ...
    @overload
    def __get__(self, client: Asynchronous, owner: type) -> Callable[P, AsyncGenerator[T]]: ...
    def __get__(self, client: Any, owner: type) -> Callable[..., Any]:
        """Return the method of a client; of a class, the function, for its documentation."""
        return self._function if client is None else _bind(client, client._iterate, self._function)


def _bind(client: Any, do: Callable[[Any], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def method(*given: Any, **named: Any) -> Any:
        return do(function(client, *given, **named))

    return method
