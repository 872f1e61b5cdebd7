"""Stems of a finished separation become a track's, or their user's own, if there is room for them."""

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
    """Keeps stems in place of the same model's earlier ones of the same names.

    Args:
        versions: decides whose they are.
        usage: of quotas.
        user_id: whose quota they need.
        track_id: of the track.
        separation: that has succeeded.
        by_hand: something about the separation was chosen.
        again: the user asked for it although there were stems.

    Raises:
        LimitExceededError: there is no room (reason QUOTA_EXCEEDED).
    """
    # The names of the fields are those of the columns.
    stems = [message_json(stem) for stem in separation.stems]
    made_by = MessageToDict(separation.made_by)
    model = separation.model
    sizes = await usage.sizes_of(stems)
    place = await versions.place_of_stems(user_id, track_id, model, stems, by_hand=by_hand, again=again)
    added = await usage.added_by(user_id, track_id, model, sizes, place)
    async with usage.held(user_id) as room:
        if added > 0:
            await room.settle(added)
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
