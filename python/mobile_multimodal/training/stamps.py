"""Knows the stamps of Tux Paint (GPL-2 pictures): what each shows, by its English description."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from PIL import Image

from mobile_multimodal.errors import NotFoundError

DEFAULT_FOLDER: Final = Path("/usr/share/tuxpaint/stamps")
# Signs, letters and coins are no things; the rest is unclear at a fifth of a picture, or has no place in questions.
_LEFT_OUT: Final = re.compile(
    r"symbols/|military/|town/flags|hanukkah|_mirror|grave|roadsigns/(?!stop|traffic_cone)|town/cartoon|space/planets/"
    r"(?!3_earth|6_saturn|0_sun)|space/(apollo|voyager)|spider_|penguin_with|wings|sedan_police|emblem|medical/|body_parts"
    r"|locomotive/cartoon/(?!toy_train)|magic_stones|inukshuk|confetti|plants/flowers/(adee|anth|app|bols|chem|pig|plastic)"
    r"|whitestar|pengwin|nandou|indian_blackbuck|xanthia|houses/cartoon/(hunter|city|black|cave|fish|inn|jail|tavern|town"
    r"|univ|ware|stab|farm|monas|cathed|swiss|circus)|dinosaurSings|bathys|walnutBoat|hard_candy|explosion|grannysmith"
    r"|German_Christmas|Mince|pudding|xmas_tp|trees/(rambutan|tree336|holm|birch)|cep|eggplant.png.*plants|drumkit.*svg"
)
_COLLECTIVE: Final = {"pair", "bunch", "cluster", "head", "string", "couple", "quarter", "glass", "plant", "baby", "set"}
# Words whose meaning needs the word in front: a tennis ball is a "tennis ball".
_NEEDS_QUALIFIER: Final = {"ball", "bear", "truck", "bus", "car", "cap", "balloon", "hat", "duck", "horn", "tree", "can",
                           "bin", "light", "cane", "goat", "lion", "ducky", "star", "box", "racket", "cup", "egg", "tower"}  # fmt: skip
_PLAIN: Final = {
    "sedan car": "car", "sports car": "car", "race car": "car", "green bus": "bus", "european bear": "bear",
    "toy cement truck": "truck", "dump truck": "truck", "tow truck": "truck", "pickup truck": "truck",
    "feathered hat": "hat", "propeller hat": "hat", "top hat": "hat", "christmas hat": "hat", "party hat": "hat",
    "cement truck": "truck", "decker bus": "bus", "air balloon": "hot air balloon", "soccer ball": "soccer ball",
    "garbage can": "trash can", "compost bin": "trash can", "easter egg": "egg", "lit candle": "candle",
    "colorful star": "star", "round tower": "tower", "square tower": "tower", "watch tower": "tower",
    "happy lion": "lion", "christmas light": "light", "bow": "bow", "bunny": "rabbit", "trophy cup": "trophy",
    "mountaingoat": "goat", "hen": "chicken", "drake": "duck", "gander": "goose", "dromedary": "camel", "doe": "deer",
    "wapiti": "deer", "lamb": "sheep", "ram": "sheep", "chimp": "chimpanzee", "capybara": "capybara", "tiger": "tiger",
    "sumatran tiger": "tiger", "fedora": "hat", "sombrero": "hat", "hippopotamus": "hippo", "rhino": "rhino",
    "kiwifruit": "kiwi", "cherries": "cherry", "blueberries": "blueberry", "mandarin orange": "orange",
    "mandarine": "orange", "green apple": "apple", "red apple": "apple", "granny smith": "apple", "tomtom drum": "drum",
    "locomotive": "train", "tugboat": "boat", "ship": "ship", "sailboat": "boat", "beetle": "car", "sedan": "car",
    "parrot": "parrot", "rosella": "parrot", "lorikeet": "parrot", "gull": "seagull", "peahen": "peacock",
    "guineafowl": "guinea fowl", "fowl": "guinea fowl", "chilepepper": "pepper", "bunny-egg": "rabbit",
    "boars": "boar", "gnu": "gnu", "plumber’s wrench": "wrench", "helicopter": "helicopter", "tent": "tent",
    "light red": "traffic light", "anemone flower": "flower", "hibiscus flower": "flower", "flowers": "flower",
    "daffodil": "flower", "iris": "flower", "marigold": "flower", "petunia": "flower", "gazania": "flower",
    "rose": "rose", "butterflyfish": "fish", "clownfish": "fish", "groper": "fish", "trout": "fish", "wrasse": "fish",
    "dolphinfish": "fish", "lionfish": "fish", "stripey fish": "fish", "hornet": "wasp", "hoverfly": "fly",
    "airplane": "airplane", "tarantula": "spider", "lunar": "moon", "shirt": "shirt", "polo shirt": "shirt",
    "t shirt": "shirt", "wheel": "wheel", "bear": "bear", "christmas tree": "christmas tree", "palm tree": "palm tree",
    "christmas stocking": "sock", "stocking": "sock", "glass of water": "glass", "marker": "pen", "mallet": "hammer",
    "spade": "shovel", "lightbulb": "light bulb", "stop sign": "stop sign", "tramontana": "wind",
}  # fmt: skip
_BY_FILE: Final = {
    "tux": "penguin", "moon_3qt": "moon", "moon_full": "moon", "moon_crescent": "moon", "3_earth": "earth",
    "6_saturn": "saturn", "0_sun": "sun", "plane": "airplane", "747": "airplane", "stop": "stop sign", "broccoli":
    "broccoli", "fire": "fire", "lightningbolt": "lightning", "eddieCopter": "helicopter", "fireman240a": "fireman",
    "fireman200b": "fireman", "7spoke256": "wheel", "edward_bear": "teddy bear", "teddy_bear": "teddy bear", "lobster":
    "lobster", "bluegroper": "fish", "toilet": "toilet", "holly_leaves": "leaves", "Santa": "santa claus",
    "football_helmet_front": "helmet", "football_helmet_side": "helmet", "knight_helmet": "helmet", "stoplight_01_red":
    "traffic light", "stoplight_02_yellow": "traffic light", "stoplight_03_green": "traffic light", "home_compost_bin":
    "trash can", "wheelie_bin": "trash can", "firetruck": "fire truck", "fire_engine": "fire truck", "garbagetruck":
    "garbage truck", "uk_post_box": "mailbox", "usps_mailbox": "mailbox", "spacewalk": "astronaut", "rubberduck":
    "rubber duck", "tux_tractor": "tractor", "wheel_tractor": "wheel", "dumper": "truck", "guitar_electric_bass":
    "guitar", "wrapped_chocolate_easter_egg": "egg", "wrapped_chocolate_easter_egg_2": "egg", "pizza": "pizza",
    "candy_cane": "candy cane", "Candy_cane_photo_1": "candy cane", "Candy_cane_photo_2": "candy cane", "Roast_turkey":
    "roast turkey", "apple_core": "apple", "sheep_lamb": "sheep", "bunny-egg": "rabbit", "chick-hatched": "chick",
    "chick-in-egg": "chick", "walnut_shelled": "walnut", "pasta_pot": "pot", "pressure_cooker": "pot", "ginger": "ginger",
    "measuring_tape": "measuring tape", "lavender": "lavender", "eggplant": "eggplant", "jackolantern_mean": "pumpkin",
    "australian_rules_football": "football", "albino_peahen": "peacock", "peacock": "peacock", "peahen": "peacock",
    "orange_seville": "orange", "blackcat": "cat", "gnu-baby": "gnu", "gnu-baby-stand": "gnu", "toy_train": "train",
    "xmaswreath": "wreath", "pinkhome": "house", "cityhouse": "house", "wooden_cottage": "house", "mermaid": "mermaid",
    "eiffel_tower": "eiffel tower", "fairytale_castle": "castle", "fort": "castle", "fortress": "castle",
    "sword_in_the_stone": "sword", "tower_flag_red": "tower", "tower_round_flag": "tower", "hoverfly": "fly",
    "sea_lion": "sea lion", "double_decker_bus": "bus", "green_korean_bus": "bus", "balloon360": "hot air balloon",
    "chineseJunk": "ship", "towTruck": "truck", "cementMixer": "truck", "terex": "truck", "garlics": "garlic",
    "chicken_profile": "chicken", "lettuce_bolted": "lettuce", "redlettuce": "lettuce", "holly": "leaves",
    "thyme": "thyme", "t_sock": "sock", "cylinder": "gas cylinder", "rugby_goal_posts": "goal posts", "lamp": "light",
    "garlic": "garlic", "avocado": "avocado", "cherimoya": "cherimoya", "tomato": "tomato", "lemon_slice": "lemon",
    "glass": "glass", "drumkit": "drums", "cementmixer": "cement mixer", "totem": "totem pole",
    "pepper_grinder": "pepper grinder", "traffic_cone": "traffic cone", "party-horn-in": "party horn",
}  # fmt: skip
_SUPERCLASS: Final = {
    "animals": "animal", "food": "food", "vehicles": "vehicle", "clothes": "clothing",
    "hobbies/music": "musical instrument", "household/tools": "tool", "animals/birds": "bird", "food/fruit": "fruit",
    "food/vegetables": "vegetable", "plants/flowers": "flower",
}  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """A cut-out picture, what it shows, and what that is an example of: apple, fruit, food."""

    path: Path
    name: str
    classes: tuple[str, ...]
    is_drawn: bool

    def picture(self, longer_side: int) -> Image.Image:
        """RGBA without empty borders, its longer side `longer_side` pixels."""
        image = Image.open(self.path).convert("RGBA")
        image = image.crop(image.getchannel("A").point(lambda alpha: 255 if alpha > 32 else 0).getbbox())
        scale = longer_side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS)


def name_of(description: str) -> str:
    """The thing a description names ("A pair of pants." -> pants), empty where the sentence says more than that."""
    text = re.sub(r"\(.*?\)|[“”\"'].*?[“”\"']\s*", "", description.strip()).lower()
    match = re.fullmatch(r"(?:an?|the|some|two|our)?\s*([a-z’ -]+?)\s*[.!]?", text.split(",")[0].rstrip("!. "))
    if match is None or not description:
        return ""
    words = match.group(1).split()
    if "of" in words:
        before, after = words[: words.index("of")], words[words.index("of") + 1 :]
        words = [word for word in after if word not in ("a", "the")] if before and before[-1] in _COLLECTIVE else before
    if not words or len(words) > 4:
        return ""
    pair = " ".join(words[-2:])
    if pair in _PLAIN:
        return _PLAIN[pair]
    if words[-1] in _NEEDS_QUALIFIER and len(words) > 1:
        return pair if words[-2] not in ("colorful", "small", "big", "green", "red", "happy") else words[-1]
    return _PLAIN.get(words[-1], words[-1])


def read_stamps(folder: Path = DEFAULT_FOLDER) -> list[Stamp]:
    """All stamps with a plain name, in the order of their paths."""
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder} is not there", hint="install the Debian package tuxpaint-stamps-default, or leave out --stamps"
        )
    stamps = []
    for path in sorted(folder.rglob("*.png")):
        inside = path.relative_to(folder)
        if _LEFT_OUT.search(str(inside)):
            continue
        text = path.with_suffix(".txt")
        first_line = text.read_text(encoding="utf-8").splitlines()[0] if text.is_file() else ""
        name = _BY_FILE.get(path.stem) or name_of(first_line)
        if not name:
            continue
        parts = [str(parent) for parent in inside.parents]
        classes = tuple(_SUPERCLASS[part] for part in parts if part in _SUPERCLASS and _SUPERCLASS[part] != name)
        stamps.append(Stamp(path, name, classes, "cartoon" in inside.parts))
    return stamps


def held_out_stamps(stamps: list[Stamp], random: Random) -> set[Path]:
    """Stamps that training never sees: one of every third name that has several."""
    by_name: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        by_name.setdefault(stamp.name, []).append(stamp)
    return {random.choice(group).path for group in by_name.values() if len(group) > 1 and random.random() < 0.35}
