"""Stems of a finished separation become a track's, if there is room for them."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from services.download.store import Library
from services.download.usage import Usage
from stemtube.separation.v1 import separation_pb2


async def keep_stems(
    library: Library, usage: Usage, user_id: str, track_id: str, separation: separation_pb2.Separation
) -> list[str]:
    """Keeps stems in place of the same model's earlier ones of the same names.

    Args:
        library: where the track is.
        usage: of quotas.
        user_id: whose quota they need.
        track_id: whose they are.
        separation: that has succeeded.

    Returns:
        Keys of the objects that they replace, which other tracks may need.

    Raises:
        LimitExceededError: there is no room (reason QUOTA_EXCEEDED); the sweep removes them, unless others need them.
    """
    stems: list[dict[str, Any]] = [
        MessageToDict(stem, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for stem in separation.stems
    ]
    made_by = MessageToDict(separation.made_by)
    sizes, added = await usage.of_stems(track_id, separation.model, stems)
    async with usage.held(user_id) as room:
        if added > 0:
            await room.settle(added)
        return await library.set_stems(track_id, separation.model, stems, made_by, sizes=sizes, reservation_id=room.id)
