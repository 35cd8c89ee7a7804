"""The names of languages in the languages themselves."""

from __future__ import annotations

# fmt: off
OWN_NAMES = {
    "af": ["Afrikaans"], "am": ["አማርኛ"], "ar": ["العربية", "عربي"], "as": ["অসমীয়া"],
    "az": ["azərbaycan", "azərbaycanca"],
    "ba": ["башҡортса"], "be": ["беларуская"], "bg": ["български"], "bn": ["বাংলা"], "bo": ["བོད་སྐད་"],
    "br": ["brezhoneg"], "bs": ["bosanski"], "ca": ["català"], "cs": ["čeština", "česky"], "cy": ["Cymraeg"],
    "da": ["dansk"], "de": ["Deutsch"], "el": ["Ελληνικά"], "en": ["English"], "es": ["español", "castellano"],
    "et": ["eesti"], "eu": ["euskara"], "fa": ["فارسی"], "fi": ["suomi"], "fo": ["føroyskt"], "fr": ["français"],
    "gl": ["galego"], "gu": ["ગુજરાતી"], "ha": ["Hausa"], "haw": ["ʻŌlelo Hawaiʻi"], "he": ["עברית"],
    "hi": ["हिन्दी", "हिंदी"], "hr": ["hrvatski"], "ht": ["kreyòl ayisyen", "kreyòl"], "hu": ["magyar"],
    "hy": ["հայերեն"], "id": ["Indonesia", "bahasa Indonesia"], "is": ["íslenska"], "it": ["italiano"],
    "ja": ["日本語"], "jw": ["basa Jawa", "Jawa"], "ka": ["ქართული"], "kk": ["қазақ тілі", "қазақша"], "km": ["ខ្មែរ"],
    "kn": ["ಕನ್ನಡ"], "ko": ["한국어", "조선말"], "la": ["Latina", "lingua Latina"], "lb": ["Lëtzebuergesch"],
    "ln": ["lingála"], "lo": ["ລາວ"], "lt": ["lietuvių"], "lv": ["latviešu"], "mg": ["Malagasy"],
    "mi": ["Māori", "te reo Māori"], "mk": ["македонски"], "ml": ["മലയാളം"], "mn": ["монгол"], "mr": ["मराठी"],
    "ms": ["Melayu", "bahasa Melayu"], "mt": ["Malti"], "my": ["မြန်မာ", "မြန်မာဘာသာ"], "ne": ["नेपाली"],
    "nl": ["Nederlands", "Vlaams"], "nn": ["nynorsk"], "no": ["norsk", "bokmål"], "oc": ["occitan"],
    "pa": ["ਪੰਜਾਬੀ", "پنجابی"], "pl": ["polski"], "ps": ["پښتو"], "pt": ["português"], "ro": ["română"],
    "ru": ["русский"], "sa": ["संस्कृतम्"], "sd": ["سنڌي"], "si": ["සිංහල"], "sk": ["slovenčina", "slovensky"],
    "sl": ["slovenščina", "slovensko"], "sn": ["chiShona"], "so": ["Soomaali"], "sq": ["shqip"],
    "sr": ["српски", "srpski"], "su": ["basa Sunda", "Sunda"], "sv": ["svenska"], "sw": ["Kiswahili"], "ta": ["தமிழ்"],
    "te": ["తెలుగు"], "tg": ["тоҷикӣ"], "th": ["ไทย", "ภาษาไทย"], "tk": ["türkmençe", "türkmen"],
    "tl": ["Tagalog", "Filipino"], "tr": ["Türkçe"], "tt": ["татарча"], "uk": ["українська"], "ur": ["اردو"],
    "uz": ["oʻzbekcha", "oʻzbek"], "vi": ["Tiếng Việt"], "yi": ["ייִדיש"], "yo": ["Yorùbá"],
    "yue": ["粵語", "粤语", "廣東話", "广东话"], "zh": ["中文", "汉语", "漢語", "普通话", "普通話", "國語", "国语"],
}
"""The code of each language, and its names in the language itself, of which some have several."""
# fmt: on
