"""Joins a question and its answer to a sentence about the picture, where simple grammar suffices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mobile_multimodal.evaluation.question_sets import Question, read_question_set

_PREPOSITION_WORDS = """
in on at under behind near by beside above below next inside outside outdoors indoors over against between across along
around beneath underneath through to upstairs downstairs atop off among within with
"""
_PREPOSITIONS: Final = frozenset(_PREPOSITION_WORDS.split())
_DETERMINER_WORDS = """
a an the this that these those his her their its my our some two three four five several many another one both all each
every someone somebody people men women children
"""
_DETERMINERS: Final = frozenset(_DETERMINER_WORDS.split())
# They end as participles do.
_NOUN_WORDS = """
building painting ceiling railing clothing wing string ring thing lightning siding awning king wedding evening morning
parking landing icing stuffing topping drawing carving writing lettering spring sling earring red bed shed seed weed
head colored speed sled
"""
_NOT_PARTICIPLES: Final = frozenset(_NOUN_WORDS.split())
_PARTICIPLE: Final = re.compile(r"\w{2,}(?:ing|ed)|taken|shown|seen|held|made|found|built|written|worn|kept|set|hung")
_LOCATION_VERBS: Final = {"located", "at", "placed", "situated", "found"}
_TIMES: Final = {
    "day": "during the day", "daytime": "during the day", "day time": "during the day", "the day": "during the day",
    "the daytime": "during the day", "daylight": "in daylight", "night": "at night", "nighttime": "at night",
    "night time": "at night", "nightime": "at night", "evening": "in the evening", "the evening": "in the evening",
    "morning": "in the morning", "the morning": "in the morning", "afternoon": "in the afternoon", "dusk": "at dusk",
    "the afternoon": "in the afternoon", "sunset": "at sunset", "summer": "in summer", "winter": "in winter",
    "noon": "at noon", "dawn": "at dawn", "sunrise": "at sunrise", "fall": "in the fall", "lunch time": "at lunch time",
    "spring": "in spring", "lunchtime": "at lunch time", "the summer": "in summer", "the winter": "in winter",
    "dinner time": "at dinner time", "day light": "in daylight", "daylight hours": "in daylight", "mid day": "at noon",
}  # fmt: skip
_TIME_STARTS: Final = {"during", "in", "at", "on", "after", "before", "while"}
_NOBODY: Final = {"no one", "nobody", "noone", "none", "no", "unknown", "not", "no person"}
_PLURALS: Final = {"people", "men", "women", "children", "kids", "police", "sheep", "adults", "players"}


@dataclass(frozen=True)
class Sentence:
    """A sentence about the picture `image` of the set `set`."""

    set: str
    image: str
    sentence: str


def sentence_from(question: str, answer: str) -> str:
    """The statement that question and answer make together; empty where the rules cannot say it well."""
    words = re.sub(r"[^\w\s'’-]", " ", question.lower()).split()
    answer = answer.lower().strip(" .")
    if len(words) < 3 or not answer or re.search(r"[^\w\s'-]", answer) or len(answer.split()) > 8:
        return ""
    if any(word in ("you", "i", "me", "your", "my", "we", "would", "will", "not", "or") for word in words):
        return ""
    if words[0] == "where" and words[1] in ("is", "are", "was", "were"):
        return _where(words[1], words[2:], answer)
    if words[0] == "who":
        return _who(words[1], words[2:], answer)
    if words[0] == "when" and words[1] in ("was", "is"):
        return _when(words[1], words[2:], answer)
    return _confirmed(words) if answer == "yes" else ""


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The subject and its participle with what follows: [the, man] [working]."""
    for index in range(1, len(words)):
        word = words[index]
        if _PARTICIPLE.fullmatch(word) and word not in _NOT_PARTICIPLES and words[index - 1] not in _DETERMINERS:
            following = words[index + 1] if index + 1 < len(words) else ""
            # "the parked car": the participle stands before its noun.
            if not following or following in _PREPOSITIONS | _DETERMINERS:
                return words[:index], words[index:]
    return words, []


def _where(verb: str, rest: list[str], answer: str) -> str:
    if rest[-1] in _LOCATION_VERBS:
        rest = rest[:-1]
    if not rest or answer.split()[0] not in _PREPOSITIONS or rest[0] in ("there", "location", "from", "it"):
        return ""
    if any(word in _PREPOSITIONS for word in rest) and _split(rest)[1]:
        return ""
    subject, participle = _split(rest)
    if subject in (["this"], ["it"], ["picture"], ["photo"]):
        subject = ["the", "picture"]
    if len(subject) == 1 and verb in ("is", "was") and not subject[0].endswith("s") and subject[0] not in ("he", "she"):
        subject = ["the", *subject]
    return " ".join([*subject, verb, *participle, answer])


def _who(verb: str, rest: list[str], answer: str) -> str:
    if verb not in ("is", "are", "has", "was") or not rest or answer in _NOBODY or answer.startswith("no "):
        return ""
    if rest[0] in ("there", "present", "pictured", "shown", "seen"):
        rest = ["in", "the", "picture"]
    if rest[0] in ("the", "this", "these") or any(word in ("is", "are", "who", "that") for word in rest):
        return ""
    subject = answer.split()
    if subject[0] in _PREPOSITIONS or {"i", "you", "yes", "photographer"} & set(subject):
        return ""
    head = next((subject[i - 1] for i, word in enumerate(subject) if i and word in _PREPOSITIONS), subject[-1])
    plural = head in _PLURALS or (head.endswith("s") and not head.endswith(("ss", "'s"))) or "and" in subject
    if subject[0] in ("a", "an") and not plural:
        plural = False
    elif subject[0] not in _DETERMINERS and not plural:
        subject = ["an" if subject[0][0] in "aeiou" else "a", *subject]
    if verb in ("is", "are"):
        verb = "are" if plural and subject[0] not in ("a", "an") else "is"
    elif verb == "has" and plural:
        verb = "have"
    return " ".join([*subject, verb, *rest])


def _when(verb: str, rest: list[str], answer: str) -> str:
    answer = _TIMES.get(answer, answer)
    if answer.split()[0] not in _TIME_STARTS or len(answer.split()) > 5:
        return ""
    subject, participle = _split(rest)
    if rest[-1] == "photographed":
        return ""
    if subject in (["picture"], ["photo"], ["this"], ["it"], ["pic"], ["photograph"]):
        subject = ["the", "picture"]
    if participle != ["taken"] and (participle or " ".join(subject) not in ("the scene", "this scene")):
        return ""
    return " ".join([*subject, verb, *participle, answer])


def _confirmed(words: list[str]) -> str:
    first, second, *rest = words
    if not rest:
        return ""
    if (first, second) == ("could", "this") and rest[0] == "be" and len(rest) > 1:
        kind = rest[1:]
        if kind[0] not in _DETERMINERS:
            return ""
        return " ".join(["this", "is", *kind])
    if (first, second) == ("are", "there"):
        if rest[0] == "any":
            rest = rest[1:]
        return " ".join(["there", "are", *rest]) if rest and not {"any", "more"} & set(rest) else ""
    if (first, second) == ("is", "this"):
        if rest[0] in ("a", "an", "the") or rest[0] in _PREPOSITIONS:
            return " ".join(["this", "is", *rest])
        # "this man skiing": the noun is one word in nearly every question.
        if len(rest) > 1 and rest[0] in ("person", "man", "woman", "boy", "girl", "child", "guy", "lady", "dog", "cat",
                                         "animal", "room", "bird", "kid", "train", "horse", "player"):  # fmt: skip
            return " ".join(["this", rest[0], "is", *rest[1:]])
    return ""


def sentences_of(name: str, questions: Iterable[Question], most_alike: int = 150) -> list[Sentence]:
    """Sentences of a set, each text at most `most_alike` times ("the photo was taken during the day")."""
    counts: dict[str, int] = {}
    sentences = []
    for question in questions:
        text = sentence_from(question.question, question.answer)
        if not text:
            continue
        counts[text] = counts.get(text, 0) + 1
        if counts[text] <= most_alike:
            sentences.append(Sentence(name, question.image, text))
    return sentences


def write_sentences(folders: Iterable[Path], out: Path) -> dict[str, list[Sentence]]:
    """Writes sentences_{train,dev}.jsonl from the question sets in the folders; a set's name is its folder's."""
    written = {}
    for split in ("train", "dev"):
        made = [
            sentence
            for folder in folders
            for sentence in sentences_of(folder.name, read_question_set(folder, split).questions)
        ]
        lines = (json.dumps(asdict(sentence), ensure_ascii=False) + "\n" for sentence in made)
        (out / f"sentences_{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        written[split] = made
    return written


def read_sentences(path: Path) -> list[Sentence]:
    """Reads a file of write_sentences."""
    return [Sentence(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
