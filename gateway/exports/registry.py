"""All exports, by name."""

from gateway.exports import (
    audacity,
    chordpro,
    click,
    jams,
    lab,
    lrc,
    midi,
    mixdown,
    reaper,
    srt,
    stem_mp4,
    stems,
    structure,
)

EXPORTS = {
    export.name: export
    for export in (
        lrc.EXPORT,
        srt.EXPORT,
        chordpro.EXPORT,
        lab.CHORDS,
        lab.BEATS,
        lab.SECTIONS,
        structure.EXPORT,
        audacity.EXPORT,
        reaper.EXPORT,
        jams.EXPORT,
        midi.EXPORT,
        stems.EXPORT,
        click.EXPORT,
        mixdown.EXPORT,
        stem_mp4.EXPORT,
    )
}
