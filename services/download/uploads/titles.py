"""Titles of files without tags."""

from services.common.one_line import one_line

_SOUND = "aac ac3 aif aifc aiff alac amr ape au caf dff dsf dts eac3 flac m4a m4b m4p m4r mid midi mka mp1 mp2 mp3"
_MORE_SOUND = "mpa mpc mpga oga ogg opus rf64 snd spx tak tta w64 wav wave wma wv"
_VIDEO = "3g2 3gp 3gpp asf avi f4v flv m2ts m4v mk3d mkv mov mp4 mpeg mpg mts ogm ogv ogx qt ts vob webm wmv"
_ENDINGS = frozenset(f"{_SOUND} {_MORE_SOUND} {_VIDEO}".split(" "))


def title_of(filename: str) -> str:
    """The title that a file's name gives: without its ending if that is one of sound or video, so not "Mr. Brightside".

    Args:
        filename: without folders.
    """
    name = one_line(filename)
    stem, dot, ending = name.rpartition(".")
    return (stem.rstrip() if dot and stem.strip(" .") and ending.lower() in _ENDINGS else name) or "Untitled"
