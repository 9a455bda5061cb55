"""A value that is computed when it is first asked for."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class LazyProperty(Generic[T]):
    """What `functools.cached_property` is since Python 3.12: two threads may both compute the value.

    That of 3.11 has a lock, for which a child waits for ever if a thread of its parent held it at the fork.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name under which the value is kept."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Compute the value and keep it."""
        if instance is None:
            return self
        value: T = self._compute(instance)
        vars(instance)[self._name] = value  # found first from now on
        return value
