"""Reads the captions of a picture: which things they mention, how many, in what colour, doing what and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mobile_multimodal.training.caption_text import normal_form
from mobile_multimodal.training.caption_words import (
    ADJECTIVES,
    ANIMALS,
    CLOTHES,
    COLOURS,
    NUMBERS,
    PEOPLE,
    THINGS,
    Noun,
)

NOUNS: Final[Mapping[str, Noun]] = {**THINGS, **CLOTHES, **ANIMALS, **PEOPLE}
# An action as it is asked and answered, and the words that tell it.
ACTIONS: Final = {
    "running": "running runs run sprinting", "jumping": "jumping jumps jump leaping leaps leap",
    "swimming": "swimming swims swim", "sitting": "sitting sits sit seated", "standing": "standing stands stand",
    "walking": "walking walks walk strolling", "climbing": "climbing climbs climb scaling",
    "surfing": "surfing surfs", "skateboarding": "skateboarding", "skiing": "skiing skis",
    "snowboarding": "snowboarding", "sleeping": "sleeping sleeps asleep napping", "eating": "eating eats eat",
    "drinking": "drinking drinks", "smiling": "smiling smiles", "dancing": "dancing dances", "singing": "singing sings",
    "reading": "reading reads", "fishing": "fishing", "hiking": "hiking hikes", "flying": "flying flies",
    "digging": "digging digs", "lying down": "laying lying lays lies", "kissing": "kissing kisses",
    "hugging": "hugging hugs", "smoking": "smoking smokes", "painting": "painting paints", "talking": "talking talks",
    "swinging": "swinging swings", "wrestling": "wrestling wrestle", "fighting": "fighting fight",
    "riding": "riding rides ride", "playing": "playing plays play", "kayaking": "kayaking", "skating": "skating skates",
    "posing": "posing poses pose", "racing": "racing races", "barking": "barking barks", "crawling": "crawling crawls",
    "splashing": "splashing splashes", "sliding": "sliding slides", "kneeling": "kneeling kneels",
    "laughing": "laughing laughs", "cooking": "cooking cooks", "shopping": "shopping", "paddling": "paddling paddles",
    "driving": "driving drives", "diving": "diving dives", "waiting": "waiting waits", "camping": "camping",
}  # fmt: skip
ACTION_OF: Final = {word: action for action, words in ACTIONS.items() for word in words.split()}
# What stands with a preposition, and how an answer says it.
PLACES: Final = {
    "on the beach": "beach shore seashore", "in the snow": "snow", "in the street": "street road",
    "in the grass": "grass lawn", "in the water": "water", "in a pool": "pool", "in a field": "field",
    "in the park": "park", "on a mountain": "mountain mountainside mountaintop",
    "in the woods": "woods forest", "on the sidewalk": "sidewalk pavement", "in the ocean": "ocean sea",
    "in a lake": "lake pond", "in a river": "river creek stream", "on a bench": "bench", "on a couch": "couch sofa",
    "on the stairs": "stairs steps staircase", "on a stage": "stage", "in a boat": "boat canoe kayak raft",
    "in the air": "air midair", "on a trampoline": "trampoline", "on a slide": "slide", "on a swing": "swing",
    "in the desert": "desert", "in the sand": "sand", "on a bed": "bed", "in a tree": "tree", "on the floor": "floor",
    "in the city": "city", "in the kitchen": "kitchen", "on a bridge": "bridge", "in the mud": "mud",
    "in a fountain": "fountain", "in the yard": "yard backyard", "at a playground": "playground",
    "on a dock": "dock pier",
    "on a track": "track racetrack", "in a restaurant": "restaurant", "on a path": "path trail",
    "in a store": "store shop market", "on a bus": "bus", "in a tunnel": "tunnel", "in a garden": "garden",
    "at a skate park": "skatepark",
}  # fmt: skip
PLACE_OF: Final = {word: place for place, words in PLACES.items() for word in words.split()}
_BEFORE_PLACE = {"in", "on", "at", "through", "across", "along", "into", "down", "by", "over", "onto", "inside", "near"}
# Near a place is not in it; a dog by the water is not in the water.
_NOT_AT = {"near", "by", "over", "into", "onto"}
_ARTICLES = {"a", "an", "the", "his", "her", "their", "its", "another", "some", "this", "that", "one"}


@dataclass(frozen=True)
class Mention:
    """A noun in a caption: its colour (``black and white`` too) and number where they are said, and its place there."""

    noun: Noun
    position: int
    colour: str = ""
    number: int | None = None
    is_coloured_twice: bool = False


@dataclass(frozen=True)
class Caption:
    """The words of one caption and what its nouns say."""

    words: tuple[str, ...]
    mentions: tuple[Mention, ...]

    def action_of(self, names: set[str]) -> Iterator[str]:
        """Actions that follow a mention of one of the names, before another animal or person is mentioned."""
        for mention in self.mentions:
            if mention.noun.name not in names:
                continue
            for word in self.words[mention.position + 1 :]:
                if word in PEOPLE or word in ANIMALS or word in ("while", "as", "who", "that", "which"):
                    break
                if word in ACTION_OF:
                    yield ACTION_OF[word]
                    break

    def places(self) -> Iterator[str]:
        """Places the caption puts its first subject in: "in the snow", "on a bench"."""
        preposition = ""
        for index, word in enumerate(self.words):
            if word in _BEFORE_PLACE:
                preposition = word
            elif word in PLACE_OF and preposition and preposition not in _NOT_AT:
                # "across the street from": the street is what lies between.
                if index + 1 < len(self.words) and self.words[index + 1] in ("from", "with", "wall", "light", "sign"):
                    continue
                if word == "stream" and preposition != "in":
                    continue
                yield PLACE_OF[word]
                preposition = ""
            elif word in NOUNS:
                preposition = ""


@dataclass(frozen=True)
class PictureFacts:
    """What the captions of one picture say together."""

    image: str
    captions: tuple[Caption, ...]
    words: frozenset[str] = field(repr=False)
    names: frozenset[str] = field(repr=False)

    def mentions(self, name: str) -> Iterator[Mention]:
        """All mentions of a thing."""
        for caption in self.captions:
            for mention in caption.mentions:
                if mention.noun.name == name:
                    yield mention

    def captions_naming(self, name: str) -> int:
        """How many captions mention a thing."""
        return sum(any(mention.noun.name == name for mention in caption.mentions) for caption in self.captions)

    def is_always_single(self, name: str) -> bool:
        """Whether no caption speaks of more than one of a thing."""
        return all(
            not mention.noun.is_plural and mention.number in (None, 1) for mention in self.mentions(name)
        ) and all(
            sum(mention.noun.name == name and mention.number == 1 for mention in caption.mentions) <= 1
            for caption in self.captions
        )

    def count(self, names: set[str]) -> int | None:
        """How many of some things there are, if at least three captions say so and none disagrees."""
        counts = Counter(_count(caption, names) for caption in self.captions)
        unknown = counts.pop(None, 0)
        counts.pop(0, 0)
        if len(counts) != 1:
            return None
        number, votes = counts.most_common(1)[0]
        return number if votes >= 3 and (unknown == 0 or (number is not None and number > 1)) else None


def _count(caption: Caption, names: set[str]) -> int | None:
    total = 0
    for mention in caption.mentions:
        if mention.noun.name in names:
            if mention.number is None:
                # "the man" after "a man" is the same one again; a bare plural or a lone "the dog" says nothing.
                if mention.noun.is_plural:
                    return None
                continue
            total += mention.number
    return total


def read_caption(text: str) -> Caption:
    """Finds the nouns of a caption with their colours and numbers."""
    words = tuple(normal_form(text).split())
    mentions = []
    for index, word in enumerate(words):
        noun = NOUNS.get(word)
        if noun is None or _is_part_of_another(words, index):
            continue
        mentions.append(_mention(words, index, noun))
    return Caption(words, tuple(mentions))


def _is_part_of_another(words: Sequence[str], index: int) -> bool:
    following = words[index + 1] if index + 1 < len(words) else ""
    previous = words[index - 1] if index else ""
    if words[index] in ("skis", "swing", "slide", "play", "race") and previous not in _ARTICLES | ADJECTIVES | {"on"}:
        return words[index] != "skis"
    # "tennis ball court", "dog sled": the second noun is the thing; "hot dog" is none of its words.
    return (previous, words[index]) in {("hot", "dog"), ("teddy", "bear"), ("stuffed", "animal"), ("toy", "dog")} or (
        following in NOUNS and words[index] in THINGS
    )


def _mention(words: Sequence[str], index: int, noun: Noun) -> Mention:
    colours: list[str] = []
    number = None
    cursor = index - 1
    while cursor >= 0:
        word = words[cursor]
        if word in COLOURS:
            colours.insert(0, COLOURS[word])
        elif word == "and" and colours and cursor and words[cursor - 1] in COLOURS:
            pass
        elif word in NUMBERS:
            number = NUMBERS[word]
            break
        elif word in ("a", "an", "another"):
            number = 1
            break
        elif word not in ADJECTIVES:
            break
        cursor -= 1
    if noun.is_plural and number == 1:
        number = None
    if noun.is_plural and number is None and "couple of" in " ".join(words[max(0, index - 4) : index]):
        number = 2
    return Mention(noun, index, " and ".join(sorted(set(colours))), number, len(set(colours)) > 1)


def read_picture(image: str, captions: Sequence[str]) -> PictureFacts:
    """Reads all captions of a picture."""
    read = tuple(map(read_caption, captions))
    words = frozenset(word for caption in read for word in caption.words)
    return PictureFacts(image, read, words, frozenset(NOUNS[word].name for word in words if word in NOUNS))
