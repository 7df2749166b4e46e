"""Asks whether something is in a picture, and as often about a picture where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from mobile_multimodal.training.absence_hints import HINTS
from mobile_multimodal.training.caption_facts import ACTION_OF, ACTIONS, PictureFacts
from mobile_multimodal.training.caption_words import ANIMALS, ANYONE, COLOURS, PAIRS, PEOPLE, SMALL
from mobile_multimodal.training.question_rules import Draft, is_surely_not, subject_of, sure_actions, sure_colours

# Pictures that show one of a group make the hard half of the "no" about the others of it.
GROUPS: Final = (
    ("dog", "cat", "horse", "bird", "duck", "cow", "sheep", "bull", "goat", "monkey", "camel", "rabbit", "squirrel",
     "deer", "fish", "elephant", "pig", "turtle", "bear", "lion", "zebra", "giraffe"),
    ("man", "woman", "boy", "girl", "baby"),
    ("bike", "motorcycle", "car", "truck", "bus", "train", "boat", "scooter", "wheelchair", "stroller"),
    ("skateboard", "surfboard", "snowboard", "sled", "skis"),
    ("frisbee", "kite", "balloon", "umbrella", "flag", "racket"),
    ("guitar", "violin", "microphone", "newspaper", "cigarette", "cellphone"),
    ("bench", "couch", "bed", "trampoline", "slide", "swing", "tunnel", "tent", "fountain", "bridge"),
    ("hat", "helmet", "sunglasses", "backpack", "scarf"),
)  # fmt: skip
_ANIMAL_HINTS: Final = {"animal", "animals", "creature", "zoo", "farm", "pet", "pets", "puppet"}
# What a scene is called in captions, and what hints at it.
_SCENES: Final = {
    "snow": (
        "snow snowy snow-covered",
        "ice icy winter ski skis skiing skier snowboard snowboarder sled frozen cold snowball snowman "
        "mountain snowboarding sledding snowmobile husky",
    ),
    "water": (
        "water ocean lake river pool sea pond stream creek",
        "beach swim swimming surfer surfing surf wave waves splash splashing wet rain boat kayak canoe "
        "fountain puddle fish fishing shore coast waterfall raft dock diving dive swims swimmer hose "
        "sprinkler bath surfboard sail pier underwater wading waters mud wakeboard bridge snow drink drinking "
        "floating bay rapids paddling surfs",
    ),
    "grass": (
        "grass lawn grassy",
        "field yard park garden meadow pasture hill backyard soccer football baseball golf outside plants "
        "weeds course area hillside outdoors woods forest playing flowers brush tall",
    ),
    "sand": (
        "sand sandy",
        "beach desert dune dunes shore dirt volleyball ocean sandbox coast",
    ),
    "graffiti": (
        "graffiti",
        "mural painted painting wall art spray",
    ),
}
_NOT_TOGETHER: Final = {
    "running": "sitting|sleeping|lying down|standing|swimming|climbing|reading|eating|posing|surfing|skiing|kneeling",
    "jumping": "sitting|sleeping|lying down|walking|reading|eating|swimming|standing|talking|kneeling",
    "swimming": "running|standing|sitting|climbing|sleeping|skateboarding|reading|riding|dancing|skiing|jumping",
    "sitting": "running|jumping|walking|climbing|standing|swimming|surfing|skateboarding|dancing|skiing|flying",
    "standing": "running|sitting|swimming|sleeping|jumping|lying down|climbing|surfing|skiing|riding|kneeling",
    "walking": "sitting|sleeping|jumping|swimming|climbing|lying down|surfing|skiing|riding|dancing",
    "climbing": "sitting|swimming|running|surfing|sleeping|skateboarding|riding|dancing|eating|lying down",
    "sleeping": "running|jumping|walking|standing|eating|playing|swimming|climbing|reading",
    "lying down": "running|jumping|walking|standing|climbing|dancing|swimming",
    "surfing": "running|sitting|skateboarding|skiing|walking|climbing|snowboarding|dancing",
    "skateboarding": "surfing|skiing|sitting|swimming|snowboarding|sleeping|climbing",
    "skiing": "surfing|skateboarding|swimming|sitting|running|dancing",
    "snowboarding": "surfing|skateboarding|swimming|sitting|running|dancing",
    "riding": "swimming|sleeping|dancing|climbing|sitting|reading|surfing",
    "eating": "running|swimming|jumping|sleeping|climbing|surfing|dancing",
    "reading": "running|swimming|jumping|sleeping|climbing|surfing|dancing",
    "dancing": "swimming|sleeping|climbing|reading|surfing|riding|sitting",
    "playing": "sleeping|reading|cooking|surfing",
    "flying": "swimming|sleeping|eating|sitting",
    "smiling": "sleeping|swimming|surfing",
}  # fmt: skip
_MOST_PER_KEY: Final = 420


class YesNoQuestions:
    """Balanced questions on all pictures of a split."""

    def __init__(self, pictures: Sequence[PictureFacts], seed: str) -> None:
        self._pictures = pictures
        self._random = Random(seed)

    def drafts(self) -> Iterator[Draft]:
        """All of them, for each thing asked as many "yes" as "no"."""
        for group in GROUPS:
            for name in group:
                yield from self._presence(name, [other for other in group if other != name])
        for scene, (words, hints) in _SCENES.items():
            yield from self._scene(scene, set(words.split()), set(hints.split()))
        yield from self._presence("person", [])
        yield from self._colours()
        yield from self._actions()
        yield from self._numbers()

    def _balanced(self, key: str, yes: list[tuple[str, str]], no: list[tuple[str, str]]) -> Iterator[Draft]:
        for found in (yes, no):
            self._random.shuffle(found)
        size = min(len(yes), len(no), _MOST_PER_KEY)
        for answer, found in (("yes", yes), ("no", no)):
            for image, question in found[:size]:
                yield Draft(image, question, answer, "yesno", f"yesno {key}")

    def _presence(self, name: str, siblings: list[str]) -> Iterator[Draft]:
        article = "an" if name[0] in "aeiou" and name != "unicycle" else "a"
        thing = name if name in PAIRS else f"{article} {name}"
        verb = "Are" if name in PAIRS else "Is"
        forms = [
            f"{verb} there {thing} in the picture?",
            f"{verb} there {thing}?",
            f"{verb} there {thing} in this photo?",
            f"Can you see {thing}?",
            f"Does the picture show {thing}?",
        ]
        blocked = _blocking_words(name)
        least = 2 if name in PEOPLE or name in ANIMALS else 1
        yes = [facts.image for facts in self._pictures if facts.captions_naming(name) >= least]
        if name == "person":
            yes = [facts.image for facts in self._pictures if _captions_with_people(facts) >= 3]
        absent = [facts for facts in self._pictures if name not in facts.names and not facts.words & blocked]
        hard = [facts.image for facts in absent if facts.names.intersection(siblings)]
        easy = [facts.image for facts in absent if not facts.names.intersection(siblings)]
        self._random.shuffle(hard)
        self._random.shuffle(easy)
        half = min(len(yes), _MOST_PER_KEY) // 2 + 1
        no = hard[:half] + easy[: max(0, min(len(yes), _MOST_PER_KEY) - len(hard[:half]))]
        yield from self._balanced(
            name,
            [(image, self._random.choice(forms)) for image in yes],
            [(image, self._random.choice(forms)) for image in no],
        )

    def _scene(self, scene: str, words: set[str], hints: set[str]) -> Iterator[Draft]:
        forms = [f"Is there {scene} in the picture?", f"Is there {scene}?", f"Can you see {scene}?"]
        yes = [f.image for f in self._pictures if sum(bool(words & set(c.words)) for c in f.captions) >= 2]
        no = [facts.image for facts in self._pictures if not facts.words & (words | hints)]
        yield from self._balanced(
            scene,
            [(image, self._random.choice(forms)) for image in yes],
            [(image, self._random.choice(forms)) for image in no],
        )

    def _colours(self) -> Iterator[Draft]:
        known = [(facts, sure_colours(facts)) for facts in self._pictures]
        palette = sorted(set(COLOURS.values()))
        for name in sorted({name for _, colours in known for name in colours}):
            verb = "Are" if name in PAIRS else "Is"
            shown = [(facts.image, colours[name]) for facts, colours in known if name in colours]
            for colour in palette:
                question = f"{verb} the {name} {colour}?"
                yield from self._balanced(
                    f"{name} {colour}",
                    [(image, question) for image, found in shown if found == colour],
                    [(image, question) for image, found in shown if is_surely_not(colour, found)],
                )

    def _actions(self) -> Iterator[Draft]:
        known = []
        people = {noun.name for noun in PEOPLE.values()}
        for facts in self._pictures:
            subject = subject_of(facts)
            if subject:
                names = people if subject in people else {subject}
                told = {ACTION_OF[word] for word in facts.words if word in ACTION_OF}
                known.append((facts.image, subject, sure_actions(facts, names), told))
        for action in ACTIONS:
            opposite = [other for other, nots in _NOT_TOGETHER.items() if action in nots.split("|")]
            kinds = {"animal": set(ANIMALS), "person": people}
            for kind, names_of_kind in kinds.items():
                yes, no = [], []
                for image, subject, actions, told in known:
                    if subject not in names_of_kind:
                        continue
                    question = f"Is the {subject} {action}?"
                    if actions[action] >= 2:
                        yes.append((image, question))
                    elif action not in told and any(actions[other] >= 2 for other in opposite):
                        no.append((image, question))
                yield from self._balanced(f"{action} {kind}", yes, no)

    def _numbers(self) -> Iterator[Draft]:
        people = {noun.name for noun in PEOPLE.values()}
        for name, names in (("dogs", {"dog"}), ("people", people)):
            known = [(facts.image, facts.count(names)) for facts in self._pictures]
            for number, word in ((2, "two"), (3, "three"), (4, "four")):
                question = f"Are there {word} {name}?"
                yield from self._balanced(
                    f"{word} {name}",
                    [(image, question) for image, count in known if count == number],
                    [(image, question) for image, count in known if count and count != number],
                )


def _captions_with_people(facts: PictureFacts) -> int:
    return sum(any(word in PEOPLE for word in caption.words) for caption in facts.captions)


def _blocking_words(name: str) -> set[str]:
    hints = set(HINTS.get(name, ()))
    if name in ANIMALS:
        return hints | _ANIMAL_HINTS
    if name == "person":
        return set(PEOPLE) | {"he", "she", "his", "her", "they", "their", "hand", "leg", "arm", "arms", "him", "jockey"}
    if name in ("man", "woman", "boy", "girl", "baby"):
        hints |= set(ANYONE)
        if name in ("boy", "girl", "baby"):
            hints |= set(SMALL) - ({"baby", "babies", "infant"} if name == "baby" else set())
        hints |= {"man": {"he", "his", "him"}, "woman": {"she", "her"}, "boy": {"man", "men", "his", "he", "guy"}}.get(
            name, {"woman", "women", "lady", "she", "her", "teenager"} if name == "girl" else {"toddler"}
        )
    return hints
