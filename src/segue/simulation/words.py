"""The words titles, names, descriptions and tags are made of: tables, nothing else."""

from __future__ import annotations

from typing import Final

GENRES: Final[dict[str, tuple[str, ...]]] = {
    "pop": ("synth pop", "dance pop", "bedroom pop", "chamber pop", "power pop", "dream pop"),
    "hip hop": ("boom bap", "trap", "cloud rap", "grime", "jazz rap", "drill"),
    "electronic": ("downtempo", "electro", "idm", "glitch", "synthwave", "leftfield bass"),
    "rock": ("garage rock", "post-rock", "psychedelic rock", "math rock", "surf rock", "stoner rock"),
    "house": ("deep house", "acid house", "tech house", "afro house", "disco house", "lo-fi house"),
    "indie": ("indie folk", "shoegaze", "slowcore", "jangle pop", "lo-fi indie", "twee"),
    "r&b": ("neo soul", "quiet storm", "alternative r&b", "new jack swing", "funk r&b", "slow jam"),
    "techno": (
        "minimal techno",
        "dub techno",
        "hard techno",
        "ambient techno",
        "detroit techno",
        "acid techno",
    ),
    "metal": ("doom metal", "black metal", "thrash metal", "sludge", "progressive metal", "post-metal"),
    "folk": ("fingerstyle", "sea shanty", "bluegrass", "nordic folk", "balkan folk", "ballad"),
    "jazz": ("bebop", "modal jazz", "spiritual jazz", "nu jazz", "free jazz", "gypsy jazz"),
    "drum and bass": ("liquid", "jungle", "neurofunk", "halftime", "breakcore", "atmospheric"),
    "latin": ("cumbia", "bossa nova", "salsa", "reggaeton", "bolero", "tango"),
    "reggae": ("roots reggae", "dub", "dancehall", "rocksteady", "ska", "lovers rock"),
    "classical": ("piano solo", "string quartet", "minimalism", "choral", "baroque", "film score"),
    "ambient": ("drone", "field recording", "space music", "new age", "dark ambient", "sleep"),
    "punk": ("hardcore", "post-punk", "riot grrrl", "skate punk", "emo", "folk punk"),
    "afrobeats": ("amapiano", "highlife", "alte", "gqom", "juju", "kuduro"),
    "country": ("outlaw country", "americana", "honky-tonk", "alt-country", "western swing", "country pop"),
    "blues": ("delta blues", "electric blues", "desert blues", "soul blues", "jump blues", "slide guitar"),
}
"""Main genres, the most played first, with the sub-genres used as tags."""

MOODS: Final[tuple[tuple[str, ...], ...]] = (
    ("calm", "gentle", "quiet", "soft", "drowsy"),
    ("dark", "brooding", "shadowy", "cold", "nocturnal"),
    ("happy", "sunny", "bright", "playful", "golden"),
    ("sad", "blue", "lonely", "aching", "rainy"),
    ("energetic", "wild", "restless", "electric", "burning"),
    ("romantic", "tender", "velvet", "warm", "sweet"),
    ("dreamy", "hazy", "floating", "distant", "silver"),
    ("angry", "broken", "bitter", "iron", "raw"),
    ("focus", "clear", "steady", "patient", "plain"),
    ("nostalgic", "faded", "old", "forgotten", "summer"),
)
"""Moods: the tag first, then words for titles and descriptions."""

NOUNS: Final = (
    "harbour", "river", "window", "bus", "station", "mirror", "garden", "engine", "lantern", "orchard", "signal",
    "bridge", "letter", "feather", "mountain", "island", "corridor", "winter", "kitchen", "satellite", "ladder",
    "market", "ocean", "paper", "carousel", "thunder", "staircase", "motel", "desert", "compass", "telephone",
    "balcony", "tunnel", "meadow", "ferry", "rooftop", "tide", "candle", "avenue", "glacier", "hotel", "elevator",
    "shadow", "circus", "bakery", "lighthouse", "alley", "cathedral", "arcade", "comet", "parade", "attic", "canyon",
    "wolf", "heron", "fox", "moth", "tiger", "swallow", "whale", "rain", "smoke", "honey", "salt", "amber", "velvet",
    "static", "echo", "machine", "daughter", "brother", "stranger", "captain", "dancer", "ghost", "sailor",
)  # fmt: skip
PLACES: Final = (
    "Lisbon", "Marseille", "Lagos", "Kyoto", "Oslo", "Valparaíso", "Leeds", "Tbilisi", "Havana", "Accra", "Gdańsk",
    "Naples", "Austin", "Montréal", "Bergen", "Mombasa", "Jaipur", "Porto", "Malmö", "Zürich", "Recife", "Oaxaca",
    "Kraków", "Seville", "Galway", "Busan", "Hanoi", "Dakar", "Split", "Riga", "Turin", "Ghent", "Nagoya", "Cusco",
)  # fmt: skip
OCCASIONS: Final = (
    "late trains", "long drives", "the last night of summer", "early kitchens", "empty offices", "running uphill",
    "sunday cleaning", "a slow dance", "the walk home", "studying", "falling asleep", "the morning after", "road trips",
    "open windows", "small rooms", "big crowds", "rainy afternoons", "the gym", "a first date", "nobody in particular",
)  # fmt: skip
INSTRUMENTS: Final = (
    "piano", "guitar", "cello", "trumpet", "drum machine", "upright bass", "synthesizer", "banjo", "kora", "harmonium",
    "saxophone", "clarinet", "vibraphone", "organ", "accordion", "violin", "steel drum", "sitar", "charango", "oud",
    "tape loops", "hand claps", "choir", "808", "harp", "flute", "mbira", "pedal steel", "theremin", "tabla",
)  # fmt: skip
FOREIGN_TITLES: Final = (
    "Noche de lluvia", "La última canción", "Corazón de sal", "Über den Dächern", "Straße nach Süden", "Größer als wir",
    "L'été sans fin", "Où vas-tu", "Forêt bleue", "Saudade do mar", "Coração vazio", "Manhã de inverno", "Höstregn",
    "Där vägen slutar", "Źródło", "Księżyc nad Wisłą", "Yağmurlu gece", "Güneş doğarken", "Ночной поезд", "Тихий двор",
    "Белые стены", "Μικρή πόλη", "Θάλασσα", "夜の電車", "雨のあと", "青い窓", "밤하늘", "비 오는 거리", "月光", "远方的河",
    "ليل طويل", "على البحر", "रात की रेल", "नीला शहर", "לילה לבן", "Đêm trắng", "Měsíc", "Szép nyár", "Ljósið", "Kevään ääni",
)  # fmt: skip
FOREIGN_DESCRIPTIONS: Final = (
    "Grabado una noche en casa, con {a} y poco más.",
    "Aufgenommen im Keller, {a} und {b}, sonst nichts.",
    "Enregistré à l'aube, {a}, {b} et la pluie.",
    "Gravado em {p}: {a}, {b} e silêncio.",
    "Записано ночью. {a}, {b}.",
    "一晩で録音。{a} と {b}。",
    "Inspelad i {p} med {a} och {b}.",
)
FIRST_NAMES: Final = (
    "Ona", "Mila", "Tariq", "Ingrid", "Kofi", "Zoë", "Léa", "Jonas", "Amara", "Søren", "Yuki", "Paloma", "Dmitri", "Aisha",
    "Bram", "Chidi", "Elif", "Freya", "Gael", "Hana", "Ivo", "Juno", "Kaya", "Lorenzo", "Maeve", "Nikolai", "Odette",
    "Priya", "Quinn", "Rosa", "Sami", "Thalia", "Uma", "Viggo", "Wren", "Ximena", "Yara", "Zeno", "Ambrose", "Björn",
)  # fmt: skip
LAST_NAMES: Final = (
    "Vale", "Okafor", "Lindqvist", "Moreau", "Tanaka", "Ferreira", "Novák", "Haddad", "Quill", "Marsh", "Petrov", "Nguyen",
    "Castellano", "Ødegård", "Brandt", "Silva", "Kowalski", "Mensah", "Ruiz", "Yilmaz", "Ashworth", "Banerjee", "Conti",
    "Dufour", "Eriksen", "Fontaine", "Grey", "Hollis", "Ito", "Jansen", "Keita", "Lund", "Müller", "North", "Orsini",
)  # fmt: skip
COUNTRIES: Final[tuple[tuple[str, float, float], ...]] = (
    ("US", 0.20, -6.0), ("DE", 0.09, 1.0), ("GB", 0.09, 0.0), ("FR", 0.07, 1.0), ("BR", 0.08, -3.0), ("MX", 0.05, -6.0),
    ("IN", 0.06, 5.5), ("JP", 0.05, 9.0), ("KR", 0.03, 9.0), ("SE", 0.03, 1.0), ("NO", 0.02, 1.0), ("PL", 0.03, 1.0),
    ("ES", 0.04, 1.0), ("IT", 0.04, 1.0), ("NL", 0.03, 1.0), ("TR", 0.02, 3.0), ("NG", 0.03, 1.0), ("ZA", 0.02, 2.0),
    ("AU", 0.03, 10.0), ("CA", 0.03, -5.0), ("AR", 0.02, -3.0), ("ID", 0.03, 7.0), ("EG", 0.01, 2.0), ("UA", 0.02, 2.0),
)  # fmt: skip
"""ISO code, share of listeners, hours ahead of UTC."""

DEVICES: Final[tuple[tuple[str, float], ...]] = (
    ("phone", 0.58),
    ("desktop", 0.24),
    ("speaker", 0.11),
    ("tv", 0.07),
)
HOURS: Final = (
    34, 23, 15, 10, 8, 10, 18, 32, 45, 50, 50, 49, 50, 51, 51, 52, 56, 62, 66, 68, 68, 66, 60, 47,
)  # fmt: skip
"""How many sessions begin in each local hour, relatively."""
WEEKDAYS: Final = (1.0, 0.98, 0.98, 1.0, 1.06, 1.04, 0.94)
"""Activity from Monday to Sunday, relatively."""
