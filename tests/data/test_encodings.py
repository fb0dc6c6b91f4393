"""Text of many languages in the encodings in which their programs save it."""

import pytest

from miniclip.data.encodings import decode_text

TEXTS = {
    "cp1252": "Zwei süße Hunde auf der grünen Wiese, près de l’église – où est le garçon ?",
    "mac_roman": "Ein Mädchen läuft über die große Straße. Größe, Öl, Übung.",
    "cp1251": "Маленькая девочка играет с собакой. Большой красный дом.",
    "koi8_r": "Маленькая девочка играет с собакой. Большой красный дом.",
    "cp1253": "Ένα μικρό κορίτσι παίζει με τον σκύλο στο γρασίδι.",
    "cp1255": "ילדה קטנה משחקת עם כלב על הדשא הירוק.",
    "cp1256": "فتاة صغيرة تلعب مع كلب على العشب الأخضر.",
    "cp874": "เด็กผู้หญิงตัวเล็กกำลังเล่นกับสุนัข",
    "shift_jis": "小さな女の子が犬と遊んでいます。カメラ、ソファーとテーブル",
    "euc_jp": "小さな女の子が犬と遊んでいます。カメラ、ソファーとテーブル",
    "euc_kr": "작은 소녀가 개와 놀고 있다. 두 소년이 달리고 있다.",
    "gb18030": "一个小女孩在和狗玩。两个男孩在绿色的草地上奔跑。",
    "big5": "一個小女孩在和狗玩。兩個男孩在草地上奔跑。",
    "utf-16": "Ein Mädchen läuft über die große Straße.",
    "utf-8": "Příliš žluťoučký kůň",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_table_of_captions_is_read_as_it_was_written(encoding):
    table = "image,caption\n" + "".join(f"{number}.jpg,{TEXTS[encoding]}\n" for number in range(5))
    assert decode_text(table.encode(encoding))[0] == table


@pytest.mark.parametrize("text", ["Größe", "süße Füße", "a “little” girl – it’s hers"])
def test_a_short_windows_text_is_no_other(text):
    assert decode_text(f"Bild;Text\n1.jpg;{text}\n".encode("cp1252"))[0].endswith(f"{text}\n")
