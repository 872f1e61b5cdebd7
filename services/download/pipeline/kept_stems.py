"""Adds the stems of a finished separation to a track, or to the user's own stems, if there is room for them."""

from google.protobuf.json_format import MessageToDict

from services.common.jobs.messages import message_json
from services.download.tracks.versions import KeptStems, Versions
from services.download.upkeep.usage import Usage
from stemtube.separation.v1 import separation_pb2


async def keep_stems(
    versions: Versions,
    usage: Usage,
    user_id: str,
    track_id: str,
    separation: separation_pb2.Separation,
    *,
    by_hand: bool,
    again: bool,
) -> KeptStems:
    """Stores stems, and replaces earlier ones of the same model and names.

    Args:
        versions: decides whether the stems are shared or the user's own.
        usage: the users' quotas.
        user_id: the user whose quota counts them.
        track_id: the track's id.
        separation: a separation that has succeeded.
        by_hand: whether the user chose anything for the separation.
        again: whether the user asked for new stems in place of existing ones.

    Raises:
        LimitExceededError: there is no room (reason QUOTA_EXCEEDED).
    """
    # The fields of the message have the names of the table's columns.
    stems = [message_json(stem) for stem in separation.stems]
    made_by = MessageToDict(separation.made_by)
    model = separation.model
    sizes = await usage.sizes_of(stems)
    place = await versions.place_of_stems(user_id, track_id, model, stems, by_hand=by_hand, again=again)
    added = await usage.added_by(user_id, track_id, model, sizes, place)
    async with usage.held(user_id) as room:
        if added > 0:
            await room.set_size(added)
        return await versions.keep_stems(
            user_id,
            track_id,
            model,
            stems,
            made_by,
            by_hand=by_hand,
            again=again,
            sizes=sizes,
            reservation_id=room.id,
        )
