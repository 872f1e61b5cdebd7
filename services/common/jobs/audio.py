"""Opens the audio of an accepted job for its worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from services.common.errors import NotFoundError, UnavailableError
from services.common.storage.objects import ObjectStore


@contextmanager
def open_job_audio(objects: ObjectStore, key: str) -> Iterator[BinaryIO]:
    """Opens an object that was there when the job was accepted.

    Raises:
        UnavailableError: it is missing (reason NO_SUCH_OBJECT), which is worth another attempt, since somebody may put
            it back; or the store is away or does not work (see `marked_store`).
    """
    try:
        with objects.open(key) as source:
            yield source
    except NotFoundError as error:
        raise UnavailableError("The audio is not in the object storage now.", error.reason) from error
