"""Asks what is in a picture of stamps, how many of it, in what colour the background is and what is beside what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image

from mobile_multimodal.evaluation.question_sets import Question, shuffled_options
from mobile_multimodal.training.stamps import Stamp

BACKGROUNDS: Final = {
    "white": (250, 250, 250), "black": (12, 12, 12), "red": (205, 35, 35), "green": (45, 150, 55),
    "blue": (40, 75, 200), "yellow": (245, 220, 50), "orange": (245, 140, 30), "pink": (245, 160, 190),
    "purple": (125, 50, 160), "gray": (128, 128, 128), "brown": (120, 72, 35),
}  # fmt: skip
# What people call one thing or the other: the wrong one of a pair is no fair "no" and no fair option.
_CONFUSED: Final = (
    {"rat", "mouse"}, {"bull", "cow", "bison", "yak", "zebu", "gnu"}, {"car", "truck"}, {"boat", "ship"},
    {"goat", "sheep"}, {"house", "castle", "tower"}, {"bee", "wasp", "fly"}, {"turkey", "roast turkey"},
    {"duck", "goose", "rubber duck"}, {"chicken", "rooster", "chick"}, {"orange", "peach", "apricot"},
    {"horse", "donkey"}, {"deer", "caribou"}, {"dog", "dingo", "fox"}, {"potato", "yam"}, {"pumpkin", "squash"},
    {"rose", "flower"}, {"prune", "blueberry"}, {"truck", "fire truck", "garbage truck"}, {"bear", "teddy bear"},
    {"gorilla", "chimpanzee"}, {"dolphin", "whale", "orca"}, {"cello", "violin"}, {"tent", "tepee", "house", "igloo"},
    {"otter", "beaver", "ferret", "marmot"}, {"crow", "blackbird", "magpie"}, {"mug", "cup", "glass", "pitcher"},
    {"pan", "pot", "kettle", "teapot"}, {"lemon", "lime"}, {"football", "ball"}, {"boar", "pig"},
    {"hat", "baseball cap", "helmet"}, {"sun", "star"}, {"moon", "earth", "saturn"}, {"pear", "avocado", "mango"},
    {"saw", "sword"}, {"guinea fowl", "turkey", "chicken", "peacock"}, {"walnut", "pecan", "almond"},
    {"seagull", "pigeon", "goose"}, {"light", "light bulb"}, {"capybara", "marmot", "wombat", "beaver"},
    {"grasshopper", "mantis"}, {"tiger", "lion"},
)  # fmt: skip
_PLURAL_NAMES: Final = {
    "grapes", "scissors", "pliers", "pants", "binoculars", "leaves", "goal posts", "drums", "fireworks", "corn",
    "broccoli", "garlic", "ginger", "lightning", "fire", "lettuce", "santa claus", "earth", "sun", "moon", "saturn",
    "thyme", "lavender", "eiffel tower",
}  # fmt: skip
_IRREGULAR: Final = {
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "fish": "fish", "fly": "flies",
    "butterfly": "butterflies", "strawberry": "strawberries", "cherry": "cherries", "fox": "foxes",
    "raspberry": "raspberries", "blueberry": "blueberries", "dragonfly": "dragonflies", "bus": "buses",
    "bison": "bison", "ladybug": "ladybugs", "wrench": "wrenches", "paintbrush": "paintbrushes",
    "ostrich": "ostriches", "ladybird": "ladybirds", "potato": "potatoes", "mango": "mangoes", "fireman": "firemen",
    "snowman": "snowmen", "shrimp": "shrimp", "tomato": "tomatoes", "peach": "peaches", "woodlouse": "woodlice",
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A stamp in a picture: left, top, right and bottom in pixels."""

    stamp: Stamp
    box: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> int:
        """Pixels of the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Scene:
    """A picture, what stands in it and, where it is one, the colour of the background."""

    picture: Image.Image
    placed: tuple[Placed, ...]
    background: str


def plural_of(name: str) -> str:
    """ "fish" -> "fish", "bus" -> "buses"; a name that has no number stays."""
    if name in _PLURAL_NAMES:
        return name
    return _IRREGULAR.get(name) or (name + "es" if name.endswith(("s", "x", "ch", "sh")) else name + "s")


def with_article(name: str) -> str:
    """ "an owl", "a bus", "grapes"."""
    if name in _PLURAL_NAMES:
        return f"the {name}" if name in ("earth", "sun", "moon", "eiffel tower") else name
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def are_confused(first: str, second: str) -> bool:
    """Whether one may be called by the name of the other."""
    return first == second or any(first in group and second in group for group in _CONFUSED)


class SceneQuestions:
    """Asks about scenes; wrong options and absent things are drawn from all names as often as those appear."""

    def __init__(self, stamps: Sequence[Stamp]) -> None:
        self._stamps = stamps
        self._classes = sorted({name for stamp in stamps for name in stamp.classes})

    def about(self, scene: Scene, image: str, random: Random) -> list[Question]:
        """At most five questions, of different forms."""
        asked = list(self._all(scene, image, random))
        random.shuffle(asked)
        # What only some scenes can be asked comes first.
        asked.sort(key=lambda question: question.kind in ("yesno", "background"))
        kept: list[Question] = []
        # Without a bound on presence nearly every second question would be one of it.
        for question in asked:
            same = sum(other.kind == question.kind for other in kept)
            if same < (2 if question.kind == "yesno" else 1):
                kept.append(question)
        return kept[:5]

    def _all(self, scene: Scene, image: str, random: Random) -> Iterator[Question]:
        names = Counter(item.stamp.name for item in scene.placed)
        yield from self._what(scene, names, image, random)
        yield from self._presence(scene, names, image, random)
        yield from self._counts(scene, names, image, random)
        if scene.background:
            form = random.choice(
                (
                    "What color is the background?",
                    "What is the color of the background?",
                    "What colour is the background?",
                )
            )
            yield self._question(image, form, scene.background, "background", list(BACKGROUNDS), random)
        yield from self._sides(scene, names, image, random)

    def _question(
        self, image: str, text: str, answer: str, kind: str, others: Sequence[str], random: Random
    ) -> Question:
        options: tuple[str, ...] = ()
        if others and random.random() < 0.5:
            wrong = list(dict.fromkeys(random.sample(others, min(len(others), 30))))
            wrong = [name for name in wrong if not are_confused(name, answer)][:3]
            options = shuffled_options([answer, *wrong], image, text)
        return Question(image, text, answer, kind, options)

    def _what(self, scene: Scene, names: Counter[str], image: str, random: Random) -> Iterator[Question]:
        if len(names) != 1:
            return
        stamp = scene.placed[0].stamp
        every = [other.name for other in self._stamps]
        forms = ["What is this?", "What is in the picture?", "What do you see?", "What is shown?"]
        if len(scene.placed) > 1:
            forms = ["What are these?", "What is in the picture?", "What do you see?"]
        yield self._question(image, random.choice(forms), stamp.name, "what", every, random)
        if stamp.classes and random.random() < 0.7:
            kind = stamp.classes[-1]
            siblings = [other.name for other in self._stamps if kind in other.classes]
            article = "this" if len(scene.placed) == 1 else "in the picture"
            text = f"What {kind} is {article}?"
            if kind not in ("clothing", "food"):
                yield self._question(image, text, stamp.name, "what kind", siblings, random)

    def _presence(self, scene: Scene, names: Counter[str], image: str, random: Random) -> Iterator[Question]:
        forms = ("Is there {} in the picture?", "Is there {}?", "Can you see {}?", "Does the picture show {}?")
        present = [item.stamp.name for item in scene.placed]
        shown = {name for item in scene.placed for name in item.stamp.classes}
        if random.random() < 0.5:
            name, answer = random.choice(present), "yes"
        else:
            # Every second absent thing is a sibling of one that is there: an owl where a duck is.
            siblings = [s for s in self._stamps if shown & set(s.classes)]
            pool = siblings if siblings and random.random() < 0.5 else self._stamps
            name = random.choice(pool).name
            answer = "no"
            if any(are_confused(name, other) for other in names) or name in shown:
                return
        text = random.choice(forms).format(with_article(name))
        if name in _PLURAL_NAMES and text.startswith("Is there") and name.endswith("s") and name != "santa claus":
            text = text.replace("Is there", "Are there")
        yield Question(image, text, answer, "yesno")
        if not shown:
            return
        others = [name for name in self._classes if name not in shown] or sorted(shown)
        kind = random.choice(sorted(shown) if random.random() < 0.5 else others)
        if kind in ("clothing", "food"):
            text = f"Is there {kind} in the picture?" if kind == "food" else "Is there clothing in the picture?"
        else:
            text = random.choice(forms).format(with_article(kind))
        # A stamp outside the classes may still be an example of one: a snowman is none, a wreath has flowers.
        if kind in shown or all(item.stamp.classes for item in scene.placed):
            yield Question(image, text, "yes" if kind in shown else "no", "yesno")

    def _counts(self, scene: Scene, names: Counter[str], image: str, random: Random) -> Iterator[Question]:
        name, number = random.choice(sorted(names.items()))
        if name in _PLURAL_NAMES or name in ("grapes", "flower", "cherry", "blueberry", "boar", "garlic"):
            return
        if random.random() < 0.05:
            name, number = random.choice(self._stamps).name, 0
            if any(are_confused(name, other) for other in names) or name in _PLURAL_NAMES:
                return
        # Pictures with one of a thing are the most frequent ones.
        if number == 1 and random.random() < 0.85:
            return
        form = random.choice(("How many {} are there?", "How many {} are in the picture?", "How many {} can you see?"))
        numbers = ["0", "1", "2", "3", "4"]
        yield self._question(image, form.format(plural_of(name)), str(number), "count", numbers, random)

    def _sides(self, scene: Scene, names: Counter[str], image: str, random: Random) -> Iterator[Question]:
        if len(scene.placed) != 2 or len(names) != 2:
            return
        first, second = random.sample(scene.placed, 2)
        if are_confused(first.stamp.name, second.stamp.name):
            return
        one, other = first.stamp.name, second.stamp.name
        (x, y), (other_x, other_y) = first.centre, second.centre
        every = [stamp.name for stamp in self._stamps]
        # 45 of 224 pixels: nobody doubts the side.
        if abs(x - other_x) > 45:
            side = "right" if x > other_x else "left"
            forms = (
                f"What is to the {side} of the {other}?",
                f"What is on the {side}?",
                f"What is {side} of the {other}?",
            )
            yield self._question(image, random.choice(forms), one, "left_right", every, random)
            if random.random() < 0.7:
                asked = random.choice(("left", "right"))
                text = f"Is the {one} to the {asked} of the {other}?"
                yield Question(image, text, "yes" if asked == side else "no", "left_right")
        if abs(y - other_y) > 45:
            side = "below" if y > other_y else "above"
            where = "at the bottom" if side == "below" else "at the top"
            text = random.choice((f"What is {side} the {other}?", f"What is {where}?"))
            yield self._question(image, text, one, "above_below", every, random)
        if max(first.area, second.area) > 2 * min(first.area, second.area):
            larger = first if first.area > second.area else second
            word, answer = random.choice(
                (("bigger", larger.stamp.name), ("smaller", other if larger is first else one))
            )
            pair = sorted((one, other), key=lambda _: random.random())
            text = random.choice((f"Which is {word}, the {pair[0]} or the {pair[1]}?", f"Which thing is {word}?"))
            yield Question(image, text, answer, "size", shuffled_options(pair, image, text))
