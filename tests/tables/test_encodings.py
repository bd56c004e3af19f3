"""The text of a file, whatever program of whatever country wrote it."""

import codecs

import pytest

from job.errors import DataError
from job.tables.encodings import Decoded, decode, encode

SENTENCES = {
    "cp1252": ["für Müller, Grüße aus Köln", "Café fermé à l’été – déjà vu", "José Ñandú", "på Åland äter vi smörgås", "20°C, 5€"],
    "iso8859_15": ["œuvre €5 garçon"],
    "cp1250": ["Proszę zarezerwować pokój na środę", "Příliš žluťoučký kůň úpěl ďábelské ódy", "árvíztűrő tükörfúrógép"],
    "iso8859_2": ["Příliš žluťoučký kůň úpěl ďábelské ódy"],
    "cp1254": ["Bugün hava nasıl olacak, şöyle böyle ığdır"],
    "cp1257": ["Koks šiandien oras? ačiū labai, žąsis"],
    "cp850": ["für Müller, Grüße aus Köln"],
    "mac_roman": ["für Müller, Grüße aus Köln", "it’s José"],
    "cp1251": ["Какая сегодня погода, хорошая или плохая?"],
    "koi8_r": ["Какая сегодня погода, хорошая или плохая?", "забронируйте комнату, подскажите пожалуйста, когда придёт заказ"],
    "big5": ["請預訂會議室給團隊"],
    "cp1253": ["Τι καιρό κάνει σήμερα"],
    "cp932": ["会議室を予約してください、東京の天気は"],
    "gb18030": ["请预订会议室,今天天气怎么样"],
    "cp949": ["회의실을 예약해 주세요, 오늘 날씨는 어때요"],
}


@pytest.mark.parametrize(("encoding", "sentence"), [(name, text) for name, texts in SENTENCES.items() for text in texts])
def test_a_sentence_comes_back_from_the_encoding_of_its_country_which_is_told_with_words_of_it(encoding, sentence):
    text = f"input,output\n{sentence},x\n"
    found = decode("TRAIN_DATA=a.csv", "a.csv", text.encode(encoding))
    assert found.text == text
    word = next(word for word in sentence.replace(",", " ").split() if not word.isascii())
    assert f'a.csv is not UTF-8; read as {found.encoding}, which gives words such as "{word.strip("?")[:20]}"' in found.notes[0]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (b"", "utf-8"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_unicode_is_read_with_and_without_a_byte_order_mark(mark, encoding):
    text = "input\toutput\nGrüße, 🙂\tx\n"
    found = decode("", "a.csv", mark + text.encode(encoding))
    assert (found.text, found.encoding, found.mark, found.notes) == (text, encoding, bool(mark), ())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Grüße\nÜbung\n".encode() + b"\xfcx", "a.csv is damaged: line 3 is not UTF-8 (byte 0xfc)"),
        ("größe".encode("utf-16")[:-1], "a.csv is damaged: line 1 is not UTF-16-LE"),
        (b"PK\x03\x04...", "a.csv is not text but a workbook or a zip archive (.xlsx, .zip). Give it the ending of what it is."),
        (bytes(range(128, 256)) * 3, "a.csv is no text in a known encoding. Save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(content, said):
    with pytest.raises(DataError) as caught:
        decode("TRAIN_DATA=a.csv", "a.csv", content)
    assert str(caught.value).startswith(f"TRAIN_DATA=a.csv: {said}")


@pytest.mark.parametrize("text", ["für Müller", "it’s", "„Grüße“ – 5€", "naïve Café"])
def test_letters_that_were_garbled_before_the_file_was_saved_are_told(text):
    garbled = text.encode().decode("cp1252", errors="replace")
    for broken in (garbled, text.encode("ascii", errors="replace").decode().replace("?", "\ufffd")):
        assert "letters were lost or garbled before it was saved, as in" in decode("", "a.csv", broken.encode()).notes[0]
    assert decode("", "a.csv", text.encode()).notes == ()


@pytest.mark.parametrize("text", ["ÂNGELA e JOÃO", "Ça va", "â la carte", "A\u00a0Âge"])
def test_languages_that_have_those_letters_are_not_taken_for_garbled(text):
    assert decode("", "a.csv", text.encode()).notes == ()


def test_nuls_are_left_out_and_told():
    found = decode("", "a.csv", b"a,b\n1\0,2\n\0\0")
    assert found.text == "a,b\n1,2\n"
    assert found.notes[0].startswith("a.csv: 3 NUL characters are left out")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-be", "cp1252"])
@pytest.mark.parametrize("mark", [True, False])
def test_a_text_is_written_as_another_was(encoding, mark):
    content, told = encode("Grüße", Decoded("", encoding, mark and encoding != "cp1252"))
    assert told is None
    assert content == ("\ufeff" * (mark and encoding != "cp1252") + "Grüße").encode(encoding)


def test_letters_that_an_encoding_lacks_make_it_utf_8_with_a_mark():
    assert encode("ü你", Decoded("", "cp1252")) == ("\ufeffü你".encode(), 'is UTF-8, since cp1252 has no "你"')
