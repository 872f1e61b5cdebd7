"""Why a model's folder cannot be used."""


class FolderError(Exception):
    """A model's folder cannot be used. The message says what differs and what to do, and starts with a file's name."""
