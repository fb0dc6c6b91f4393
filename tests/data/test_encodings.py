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


LATIN = {
    "cp1250": [
        "Mała dziewczynka bawi się z psem na zielonej łące. Żółty autobus jedzie ulicą.",
        "Malá holčička si hraje se psem na zelené louce. Žlutý autobus jede ulicí, ještě dříve.",
        "A kislány a kutyával játszik a zöld fűben. Két fiú fut az erdőben.",
        "Dievčatko sa hrá so psom na zelenej lúke, keď ľudia stoja",
        "Deklica se igra s psom na zelenem travniku, žoga leži v travi",
        "O fetiţă se joacă cu câinele în iarbă.",
        "łąka",
    ],
    "cp1254": ["Küçük bir kız yeşil çimenlerde köpeğiyle oynuyor. İki çocuk kırmızı topla koşuyor."],
    "cp1257": [
        "Maža mergaitė žaidžia su šunimi žalioje pievoje.",
        "Maza meitene spēlējas ar suni zaļajā pļavā, viņš smejas.",
    ],
    "cp1252": [
        "Een meisje speelt met één hond",
        "Una niña pequeña juega con un perro en el césped. ¿Dónde está?",
        "Uma menina está brincando com um cão. Não há ninguém na praça.",
        "Två små flickor leker på gräset. Hästen är grön",
        "To små piger på græsset. Søen er blå, være over vejen",
        "Deux garçons courent à côté de la forêt – “c’est l’été”, 20 °C, 5 m²",
        "Kaksi poikaa leikkii järvellä päivällä",
        "Lítil stúlka leikur sér við hund á grasinu. það er þoka",
        "Müller in São Paulo, Curaçao und Besançon, à la carte, ñ, größer",
        "Ærø, Besançon, Logroño, Lübeck",
        "Um 17 Uhr im Café: ein Mädchen mit größerem Eis für 2,50 €",
    ],
}
LATIN |= {
    "iso8859_2": LATIN["cp1250"][:3],
    "iso8859_9": LATIN["cp1254"],
    "latin-1": LATIN["cp1252"][:5],
    "mac_roman": ["Größe", "süße Füße", "Deux garçons courent à côté de la forêt"],
}


@pytest.mark.parametrize(("encoding", "text"), [(encoding, text) for encoding in LATIN for text in LATIN[encoding]])
@pytest.mark.parametrize("rows", [1, 20])
def test_languages_in_latin_letters(encoding, text, rows):
    table = "image;caption\n" + "".join(f"{number}.jpg;{text}\n" for number in range(rows))
    assert decode_text(table.encode(encoding))[0] == table


@pytest.mark.parametrize("text", ["Größe", "süße Füße", "a “little” girl – it’s hers", "see § 5", "© 2020"])
def test_a_short_windows_text_is_no_other(text):
    assert decode_text(f"Bild;Text\n1.jpg;{text}\n".encode("cp1252"))[0].endswith(f"{text}\n")


OTHERS = {
    "shift_jis": ["犬が海辺を走っている。", "二人の子供がボールで遊んでいる", "小さな女の子が笑っています。カメラ"],
    "euc_jp": ["犬が海辺を走っている。", "二人の子供がボールで遊んでいる"],
    "cp949": ["개가 해변에서 뛰고 있다", "두 아이가 공을 가지고 논다.", "빨간 자동차"],
    "gbk": ["一只狗在海滩上奔跑，很快", "两个孩子在玩球。", "红色的汽车停在路边"],
    "big5": ["一隻狗在海灘上奔跑，很快", "兩個孩子在玩球。", "紅色的汽車停在路邊"],
    "cp1251": ["собака бежит по пляжу", "Двое детей играют с мячом.", "куче тича по плажа"],
    "koi8_r": ["собака бежит по пляжу", "Двое детей играют с мячом.", "красная машина, на улице"],
    "koi8_u": ["собака біжить по пляжу", "Двоє дітей граються з м'ячем."],
    "cp866": ["собака бежит по пляжу", "Маленькая девочка смеётся"],
    "mac_cyrillic": ["собака бежит по пляжу", "Маленькая девочка смеётся"],
    "cp1253": ["ένας σκύλος τρέχει στην παραλία", "Δύο παιδιά παίζουν με μια μπάλα.", "κόκκινο αυτοκίνητο"],
    "cp1255": ["כלב רץ על החוף", "שני ילדים משחקים בכדור", "מכונית אדומה"],
    "cp1256": ["كلب يجري على الشاطئ", "طفلان يلعبان بالكرة", "سيارة حمراء"],
    "cp874": ["สุนัขวิ่งบนชายหาด", "เด็กสองคนเล่นบอล", "รถสีแดง"],
}


@pytest.mark.parametrize(("encoding", "text"), [(encoding, text) for encoding in OTHERS for text in OTHERS[encoding]])
@pytest.mark.parametrize("rows", [1, 3, 5000])
def test_languages_in_other_letters(encoding, text, rows):
    """From a single caption on, and where the beginning of a large file ends within a character."""
    table = "image,caption\n" + "".join(f"{number}.jpg,{text}\n" for number in range(rows))
    assert decode_text(table.encode(encoding))[0] == table
