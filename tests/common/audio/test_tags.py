"""Tags come out readable: of every format, in the encodings of old taggers, with all artists and nothing hidden."""

from pathlib import Path

import pytest

from services.common.audio import Limits, probe
from services.common.audio.code_pages import decode_texts
from songs.small_songs import music
from tests.common.audio_files import with_ffmpeg, with_soundfile
from tests.common.damaged_files import id3v1, id3v2

SONG = music(0.3)


@pytest.fixture(scope="module")
def mp3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tags") / "song.mp3"
    return with_ffmpeg(path, SONG, "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}).read_bytes()


def tags(path: Path, data: bytes) -> dict[str, str]:
    path.write_bytes(data)
    return dict(probe(path, Limits()).tags)


OLD = {
    "windows-1250": ("Příliš žluťoučký kůň", "Jaromír Nohavica"),
    "windows-1251": ("Спокойная ночь", "Кино"),
    "windows-1252": ("Où est la tête", "L\u2019Orchestre \u201cÉté\u201d"),
    "windows-1253": ("\u03a4\u03b1 παιδιά του Πειραιά", "Μελίνα Μερκούρη"),
    "windows-1255": ("ירושלים של זהב", "נעמי שמר"),
    "windows-1256": ("يا مسافر وحدك", "محمد عبد الوهاب"),
    "cp874": ("แสงสุดท้าย", "บอดี้สแลม"),
    "shift_jis": ("夜に駆ける", "椎名林檎"),
    "euc-kr": ("벚꽃 엔딩", "버스커 버스커"),
    "big5": ("告白氣球", "周杰倫"),
    "gbk": ("北京欢迎你", "群星"),
}


@pytest.mark.parametrize("encoding", OLD)
def test_texts_in_an_old_encoding_are_readable(tmp_path: Path, mp3: bytes, encoding: str) -> None:
    title, artist = OLD[encoding]
    raw = [text.encode(encoding) for text in (title, artist)]
    expected = {"title": title, "artist": artist}
    frames = {"TIT2": b"\0" + raw[0], "TPE1": b"\0" + raw[1]}
    assert tags(tmp_path / "v2.mp3", id3v2(frames) + mp3) == expected
    found = tags(tmp_path / "v1.mp3", mp3 + id3v1(*raw))
    assert {name: found[name] for name in expected} == expected


def test_texts_of_a_wav_file_in_an_old_encoding_are_readable(tmp_path: Path) -> None:
    data = with_soundfile(tmp_path / "song.wav", SONG, subtype="PCM_16").read_bytes()
    texts = {b"INAM": "Группа крови".encode("cp1251"), b"IART": "Виктор Цой".encode("cp1251")}
    info = b"INFO" + b"".join(
        name + (len(text) + len(text) % 2).to_bytes(4, "little") + text + b"\0" * (len(text) % 2)
        for name, text in texts.items()
    )
    listed = data + b"LIST" + len(info).to_bytes(4, "little") + info
    whole = listed[:4] + (len(listed) - 8).to_bytes(4, "little") + listed[8:]
    assert tags(tmp_path / "song.wav", whole) == {"title": "Группа крови", "artist": "Виктор Цой"}


@pytest.mark.parametrize(
    "text",
    [
        "Beyoncé",
        "Für Elise",
        "Él",
        "Noël",
        "Ænima",
        "Það er ég og þú",
        "Smørrebrød på Åland",
        "À la claire fontaine",
        "Señorita",
    ],
)
def test_what_makes_sense_as_latin_1_stays_so(text: str) -> None:
    assert decode_texts([text.encode("latin-1")]) == [text]


def test_one_title_is_decoded_with_the_help_of_the_others() -> None:
    titles = ["Я", "Кукушка", "Группа крови"]
    assert decode_texts([title.encode("cp1251") for title in titles]) == titles
    assert decode_texts([]) == []
    assert decode_texts([b"plain", "夜".encode()]) == ["plain", "夜"]


def test_all_artists_are_read_and_one_title(tmp_path: Path, mp3: bytes) -> None:
    frames = {"TIT2": b"\x03Title\0garbage", "TPE1": b"\x03Artist A\0Artist B\0"}
    for version in (3, 4):
        found = tags(tmp_path / "song.mp3", id3v2(frames, version) + mp3)
        assert found == {"title": "Title", "artist": "Artist A; Artist B"}


def test_utf_16_needs_no_byte_order_mark(tmp_path: Path, mp3: bytes) -> None:
    frames = {"TIT2": b"\x01" + "No mark".encode("utf-16-le"), "TPE1": b"\x01" + "夜".encode("utf-16")}
    assert tags(tmp_path / "song.mp3", id3v2(frames) + mp3) == {"title": "No mark", "artist": "夜"}


def test_id3v2_counts_before_id3v1(tmp_path: Path, mp3: bytes) -> None:
    found = tags(tmp_path / "song.mp3", id3v2({"TIT2": b"\x03The whole title"}) + mp3 + id3v1(b"The whole ti", b"Band"))
    assert found["title"] == "The whole title"


def test_nothing_hidden_reaches_a_title(tmp_path: Path, mp3: bytes) -> None:
    hostile = "a\u202eb\u2066c\x85d\x9be\ufefff\r\ng"
    found = tags(tmp_path / "song.mp3", id3v2({"TIT2": b"\x03" + hostile.encode()}, 4) + mp3)
    assert found["title"] == "abc d ef g"
    joined = "👩\u200d👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648"
    assert tags(tmp_path / "song.mp3", id3v2({"TIT2": b"\x03" + joined.encode()}, 4) + mp3) == {"title": joined}


def test_damaged_tags_do_not_hide_the_sound(tmp_path: Path, mp3: bytes) -> None:
    broken = bytearray(id3v2({"TIT2": b"\x03Title"}))
    broken[14:18] = b"\xff\xff\xff\xff"
    assert tags(tmp_path / "song.mp3", bytes(broken) + mp3) in ({}, {"title": "Title"})


@pytest.mark.parametrize(
    ("name", "codec", "muxer"),
    [
        ("song.mp3", "libmp3lame", None),
        ("song.flac", "flac", None),
        ("song.m4a", "aac", None),
        ("song.oga", "flac", "ogg"),
        ("song.wv", "wavpack", None),
        ("song.tta", "tta", None),
        ("song.wma", "wmav2", "asf"),
        ("song.wav", "pcm_s16le", None),
        ("song.mka", "flac", "matroska"),
        ("song.caf", "pcm_s16le", None),
    ],
)
def test_tags_of_every_format_are_read(tmp_path: Path, name: str, codec: str, muxer: str | None) -> None:
    expected = {"title": "Schöner Titel 夜", "artist": "Ä & B", "album": "LP", "genre": "Folk"}
    path = with_ffmpeg(tmp_path / name, SONG, codec, muxer=muxer, tags=expected)
    found = probe(path, Limits()).tags
    assert {key: found.get(key) for key in expected} == expected
