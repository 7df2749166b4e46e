"""Asks about a picture what its captions answer: colour, number, kind, action and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from mobile_multimodal.training.caption_facts import ACTION_OF, PictureFacts
from mobile_multimodal.training.caption_words import (
    ADJECTIVES,
    ANIMALS,
    ANYONE,
    BOYS,
    CLOTHES,
    COLOURS,
    GIRLS,
    MEN,
    NEAR_COLOURS,
    PAIRS,
    PEOPLE,
    SMALL,
    THINGS,
    WOMEN,
)


@dataclass(frozen=True)
class Draft:
    """A question before balancing: `stem` groups those that a guesser who sees no picture cannot tell apart."""

    image: str
    question: str
    answer: str
    kind: str
    stem: str


_PEOPLE_NAMES: Final = {noun.name for noun in PEOPLE.values()}
_ANIMAL_NAMES: Final = {noun.name for noun in ANIMALS.values()}
_COLOURED: Final = (
    _ANIMAL_NAMES
    | {noun.name for noun in CLOTHES.values()}
    | {noun.name for noun in THINGS.values()} - {"tree", "mountain", "hill", "cliff", "wave", "fountain"}
)
_OBJECT_VERBS: Final = {
    "holding": ("holding holds hold carrying carries", "What is the {} holding?"),
    "riding": ("riding rides ride", "What is the {} riding?"),
    "climbing": ("climbing climbs climb scaling scales", "What is the {} climbing?"),
    "throwing": ("throwing throws tossing", "What is the {} throwing?"),
    "catching": ("catching catches catch", "What is the {} catching?"),
    "chasing": ("chasing chases chase", "What is the {} chasing?"),
    "eating": ("eating eats", "What is the {} eating?"),
    "pulling": ("pulling pulls", "What is the {} pulling?"),
}
_VERB_OF: Final = {word: verb for verb, (words, _) in _OBJECT_VERBS.items() for word in words.split()}
_GAMES: Final = {
    "soccer": "soccer", "tennis": "tennis", "basketball": "basketball", "football": "football", "baseball": "baseball",
    "hockey": "hockey", "volleyball": "volleyball", "rugby": "rugby", "cricket": "cricket", "softball": "softball",
    "guitar": "guitar", "violin": "violin", "frisbee": "frisbee", "drums": "drums", "polo": "polo", "golf": "golf",
    "saxophone": "saxophone", "accordion": "accordion", "piano": "piano", "lacrosse": "lacrosse", "pool": "pool",
}  # fmt: skip
_SPORTS: Final = {
    "soccer", "tennis", "basketball", "football", "baseball", "hockey", "volleyball", "rugby", "cricket", "softball",
    "surfing", "skiing", "snowboarding", "skateboarding", "golf", "wrestling", "lacrosse",
}  # fmt: skip
_EATEN: Final = {
    "ice": "ice cream", "pizza": "pizza", "cake": "cake", "apple": "apple", "sandwich": "sandwich", "candy": "candy",
    "watermelon": "watermelon", "popsicle": "popsicle", "lollipop": "lollipop", "food": "food", "corn": "corn",
    "cookie": "cookie", "hotdog": "hot dog", "grass": "grass",
}  # fmt: skip
_SKIPPED: Final = {"a", "an", "the", "his", "her", "their", "its", "some", "on", "onto", "of", *ADJECTIVES, *COLOURS}


def subject_of(facts: PictureFacts) -> str:
    """The one person or animal that at least three captions agree on; empty when there are more or none."""
    for table in (BOYS, GIRLS, MEN, WOMEN, SMALL, ANYONE, ANIMALS):
        for name in dict.fromkeys(noun.name for noun in table.values()):
            if facts.captions_naming(name) >= 3 and facts.is_always_single(name):
                others = facts.names & (_PEOPLE_NAMES | _ANIMAL_NAMES) - {name}
                if name in _PEOPLE_NAMES:
                    others -= {"person", "child", "baby"} if name != "person" else _PEOPLE_NAMES
                    if facts.count(_PEOPLE_NAMES) not in (1, None):
                        continue
                if not others:
                    return name
    return ""


def drafts_of(facts: PictureFacts, random: Random) -> Iterator[Draft]:
    """All questions with a sure answer."""
    subject = subject_of(facts)
    yield from _colours(facts, subject, random)
    yield from _numbers(facts, random)
    yield from _kinds(facts, random)
    yield from _objects(facts, subject, random)
    yield from _actions(facts, subject, random)
    yield from _places(facts, subject, random)


def sure_colours(facts: PictureFacts) -> dict[str, str]:
    """The colour of each thing of which there is one and whose mentions with a colour agree."""
    found = {}
    for name in sorted(facts.names & _COLOURED):
        colours = Counter(mention.colour for mention in facts.mentions(name) if mention.colour)
        if not colours or not (facts.is_always_single(name) or name in PAIRS):
            continue
        best, _ = colours.most_common(1)[0]
        parts = set(best.split(" and "))
        most_parts = 2 if name in _ANIMAL_NAMES else 1
        if len(parts) <= most_parts and all(_is_near(best, other) for other in colours):
            found[name] = best
    return found


def _is_near(first: str, second: str) -> bool:
    return first == second or {first, second} in NEAR_COLOURS


def is_surely_not(colour: str, known: str) -> bool:
    """Whether nobody would call a thing of colour `known` by `colour`."""
    return all(not _is_near(colour, part) for part in known.split(" and "))


def _colours(facts: PictureFacts, subject: str, random: Random) -> Iterator[Draft]:
    clothes = {noun.name for noun in CLOTHES.values()}
    for name, colour in sure_colours(facts).items():
        verb = "are" if name in PAIRS else "is"
        forms = [f"What color {verb} the {name}?"] * 3 + [
            f"What is the color of the {name}?",
            f"What colour {verb} the {name}?",
            f"Which color {verb} the {name}?",
        ]
        if name in clothes and subject in _PEOPLE_NAMES:
            forms += [f"What color {verb} the {subject}'s {name}?", f"What color {name} is the {subject} wearing?"] * 2
        yield Draft(facts.image, random.choice(forms), colour, "colour", f"colour {name}")
        if random.random() < 0.15 and " and " not in colour:
            other = random.choice([c for c in sorted(set(COLOURS.values())) if is_surely_not(c, colour)])
            pair = sorted((colour, other), key=lambda _: random.random())
            question = f"{verb.capitalize()} the {name} {pair[0]} or {pair[1]}?"
            yield Draft(facts.image, question, colour, "colour", f"colour-or {name}")


def _numbers(facts: PictureFacts, random: Random) -> Iterator[Draft]:
    groups = {name: {name} for name in sorted(facts.names & _ANIMAL_NAMES)}
    for name in ("man", "woman", "boy", "girl", "child"):
        if name in facts.names:
            groups[name] = {name}
    groups["person"] = _PEOPLE_NAMES
    plurals = {"person": "people", "man": "men", "woman": "women", "child": "children", "sheep": "sheep"}
    plurals |= {"goose": "geese", "deer": "deer", "fish": "fish", "butterfly": "butterflies", "fox": "foxes"}
    for name, names in groups.items():
        number = facts.count(names)
        if number is None or number == 0:
            continue
        # A caption that says "three people" for two men and a woman makes "how many men" unsure.
        if name != "person" and name in _PEOPLE_NAMES and facts.count(_PEOPLE_NAMES) != number:
            continue
        plural = plurals.get(name, f"{name}s")
        question = random.choice(
            [f"How many {plural} are there?"] * 3
            + [f"How many {plural} are in the picture?", f"How many {plural} can you see?", f"How many {plural}?"]
        )
        yield Draft(facts.image, question, str(number), "count", f"count {name}")


def _kinds(facts: PictureFacts, random: Random) -> Iterator[Draft]:
    animals = facts.names & _ANIMAL_NAMES
    if len(animals) == 1 and facts.captions_naming(name := next(iter(animals))) >= 3:
        question = random.choice(
            ["What animal is this?", "What animal is in the picture?", "What kind of animal is this?",
             "Which animal is there?", "What type of animal is shown?"]
        )  # fmt: skip
        yield Draft(facts.image, question, name, "what", "animal")
    people = facts.names & _PEOPLE_NAMES
    who = [table for table in (MEN, WOMEN, BOYS, GIRLS) if next(iter(table.values())).name in people]
    if len(who) == 1 and not animals:
        name = next(iter(who[0].values())).name
        number = facts.count({name})
        if number and facts.captions_naming(name) >= 3 and facts.count(_PEOPLE_NAMES) == number:
            plural = {"man": "men", "woman": "women"}.get(name, f"{name}s")
            answer = f"a {name}" if number == 1 else f"{number} {plural}"
            if number <= 3:
                question = random.choice(["Who is in the picture?", "Who is in this photo?", "Who is there?"])
                answer = answer.replace("2 ", "two ").replace("3 ", "three ")
                yield Draft(facts.image, question, answer, "what", "who")


def _objects(facts: PictureFacts, subject: str, random: Random) -> Iterator[Draft]:
    things = {**THINGS, **ANIMALS}
    found: dict[str, Counter[str]] = {}
    games: Counter[str] = Counter()
    for caption in facts.captions:
        for index, word in enumerate(caption.words):
            rest = list(caption.words[index + 1 : index + 7])
            if word in ("playing", "plays", "play") and rest:
                game = next((_GAMES[following] for following in rest[:3] if following in _GAMES), "")
                games[game] += bool(game)
            elif word in _SPORTS and rest[:1] != ["ball"]:
                games[word] += 1
            verb = _VERB_OF.get(word)
            if verb is None:
                continue
            while rest and rest[0] in _SKIPPED and rest[0] not in THINGS:
                rest.pop(0)
            if not rest:
                continue
            if verb == "eating" and rest[0] in _EATEN:
                found.setdefault(verb, Counter())[_EATEN[rest[0]]] += 1
            elif rest[0] in things and not (len(rest) > 1 and rest[1] in things):
                found.setdefault(verb, Counter())[things[rest[0]].name] += 1
    if subject:
        for verb, objects in found.items():
            name, votes = objects.most_common(1)[0]
            if len(objects) == 1 or votes >= 2:
                yield Draft(facts.image, _OBJECT_VERBS[verb][1].format(subject), name, "what", f"what {verb}")
    games.pop("", None)
    if games and subject not in _ANIMAL_NAMES:
        name, votes = games.most_common(1)[0]
        if votes >= 2 and len(games) == 1:
            if name in _SPORTS:
                question = random.choice(
                    ["What sport is this?", "What sport is being played?", "Which sport is shown?"]
                    if name not in ("surfing", "skiing", "snowboarding", "skateboarding", "wrestling")
                    else ["What sport is this?", "Which sport is shown?", "What sport is the person doing?"]
                )
                yield Draft(facts.image, question, name, "what", "sport")
            if name in _GAMES:
                form = f"What is the {subject} playing?" if subject else "What are they playing?"
                yield Draft(facts.image, form, name, "what", "playing")
    if subject == "dog":
        held = Counter(
            name for name in ("ball", "stick", "frisbee", "toy", "rope", "bird", "rabbit") if name in facts.names
        )
        text = [" ".join(caption.words) for caption in facts.captions]
        if len(held) == 1 and sum("mouth" in line or "carr" in line for line in text) >= 2:
            name = next(iter(held))
            if facts.captions_naming(name) >= 2:
                question = random.choice(["What is in the dog's mouth?", "What does the dog have in its mouth?"])
                yield Draft(facts.image, question, name, "what", "mouth")


def sure_actions(facts: PictureFacts, names: set[str]) -> Counter[str]:
    """How many captions tell each action of the subject."""
    return Counter(action for caption in facts.captions for action in set(caption.action_of(names)))


def _actions(facts: PictureFacts, subject: str, random: Random) -> Iterator[Draft]:
    if subject:
        names = {subject} | (_PEOPLE_NAMES if subject in _PEOPLE_NAMES else set())
        form = f"What is the {subject} doing?"
    else:
        group = _group(facts)
        if not group:
            return
        name, form = group
        names = _PEOPLE_NAMES if name == "people" else {name.removesuffix("s")}
    actions = sure_actions(facts, names)
    if not actions:
        return
    best, votes = actions.most_common(1)[0]
    if votes >= 2 and (len(actions) == 1 or votes > actions.most_common(2)[1][1]):
        answer = best
        detail = Counter(_action_with_object(facts, best))
        if detail and detail.most_common(1)[0][1] >= 2:
            answer = detail.most_common(1)[0][0]
        yield Draft(facts.image, form, answer, "doing", "doing")


def _group(facts: PictureFacts) -> tuple[str, str] | None:
    number = facts.count({"dog"})
    if number and number > 1 and not facts.names & _PEOPLE_NAMES:
        return "dogs", "What are the dogs doing?"
    number = facts.count(_PEOPLE_NAMES)
    if number and number > 1 and not facts.names & _ANIMAL_NAMES:
        return "people", "What are the people doing?"
    return None


def _action_with_object(facts: PictureFacts, action: str) -> Iterator[str]:
    for caption in facts.captions:
        for index, word in enumerate(caption.words):
            if ACTION_OF.get(word) != action:
                continue
            rest = [following for following in caption.words[index + 1 : index + 6] if following not in _SKIPPED]
            if action == "riding" and rest and rest[0] in {**THINGS, **ANIMALS}:
                yield f"riding a {({**THINGS, **ANIMALS})[rest[0]].name}"
            elif action == "playing" and rest and rest[0] in _GAMES:
                yield f"playing {_GAMES[rest[0]]}"


def _places(facts: PictureFacts, subject: str, random: Random) -> Iterator[Draft]:
    places = Counter(place for caption in facts.captions for place in set(caption.places()))
    if not places:
        return
    best, votes = places.most_common(1)[0]
    if votes < 2 or (len(places) > 1 and places.most_common(2)[1][1] == votes):
        return
    small = {"on a bench", "on a couch", "in the air", "on a swing", "on a slide", "on a bed", "in a tree", "on a bus"}
    forms = [f"Where is the {subject}?"] * 3 if subject else ["Where are they?"]
    if best not in small:
        forms += ["Where was this picture taken?", "Where was this photo taken?", "Where is this?"]
    yield Draft(facts.image, random.choice(forms), best, "where", "where")
