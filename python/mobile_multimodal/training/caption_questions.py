"""Turns a folder of captioned pictures into questions with answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from mobile_multimodal.evaluation.caption_references import read_captions
from mobile_multimodal.evaluation.question_sets import UNANSWERABLE, Question, shuffled_options, write_questions
from mobile_multimodal.training.caption_facts import PictureFacts, read_picture
from mobile_multimodal.training.caption_words import ANIMALS, PEOPLE
from mobile_multimodal.training.question_rules import Draft, drafts_of
from mobile_multimodal.training.unanswerable_questions import make_unanswerable
from mobile_multimodal.training.yes_no_questions import YesNoQuestions

# One question in so many has no answer.
ANSWERABLE_PER_UNANSWERABLE = 11
_OPTIONS = 4


def balanced(drafts: Iterable[Draft], random: Random) -> list[Draft]:
    """Drops drafts until no answer makes more than half of those with the same stem.

    Who sees the question alone, "What animal is this?", is then right at most every second time.
    """
    by_stem: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        by_stem[draft.stem].append(draft)
    kept: list[Draft] = []
    for stem in sorted(by_stem):
        group = by_stem[stem]
        best, votes = Counter(draft.answer for draft in group).most_common(1)[0]
        frequent = [draft for draft in group if draft.answer == best]
        others = [draft for draft in group if draft.answer != best]
        random.shuffle(frequent)
        kept += others + frequent[: min(votes, len(others))]
    return kept


def with_options(drafts: Sequence[Draft], pictures: dict[str, PictureFacts], random: Random) -> list[Question]:
    """Adds three wrong options to every second question that is not answered by yes or no.

    The wrong ones are right answers of other questions with the same stem, drawn as often as they are given there;
    none of them is in the captions of the picture.
    """
    answers: dict[str, list[str]] = defaultdict(list)
    for draft in drafts:
        answers[draft.stem if len(draft.stem.split()) < 2 else draft.kind].append(draft.answer)
    questions = []
    for draft in drafts:
        options: tuple[str, ...] = ()
        if draft.kind != "yesno" and random.random() < 0.5:
            pool = answers[draft.stem if len(draft.stem.split()) < 2 else draft.kind]
            words = pictures[draft.image].words
            wrong: list[str] = []
            for option in random.sample(pool, min(len(pool), 40)):
                if option not in (*wrong, draft.answer) and not words & set(option.split()[-1:]):
                    wrong.append(option)
            if len(wrong) >= _OPTIONS - 1:
                chosen = (draft.answer, *wrong[: _OPTIONS - 1])
                options = shuffled_options(chosen, draft.image, draft.question)
        questions.append(Question(draft.image, draft.question, draft.answer, draft.kind, options))
    return questions


def absent_questions(
    questions: Sequence[Question], pictures: dict[str, PictureFacts], random: Random
) -> list[Question]:
    """Real questions about people and animals, each put to a picture that shows none of either."""
    asked = [q for q in questions if q.kind in ("colour", "what", "doing", "where")]
    free = {
        "person": [p for p in pictures.values() if not any(w in PEOPLE for w in p.words)],
        "animal": [p for p in pictures.values() if not any(w in ANIMALS for w in p.words)],
    }
    made: list[Question] = []
    for question in random.sample(asked, len(asked)):
        words = question.question.lower().rstrip("?").replace("'s", "").split()
        animal = [ANIMALS[w].name for w in words if w in ANIMALS]
        person = [w for w in words if w in PEOPLE]
        candidates = free["animal"] if animal else free["person"] if person else []
        if candidates and (animal or len(made) % 3):
            made.append(Question(random.choice(candidates).image, question.question, UNANSWERABLE, UNANSWERABLE))
    return made


def questions_from_captions(captions: dict[str, list[str]], seed: str) -> list[Question]:
    """All questions about the pictures of one split, the same ones for the same seed."""
    pictures = {image: read_picture(image, texts) for image, texts in sorted(captions.items())}
    random = Random(seed)
    drafts = [draft for facts in pictures.values() for draft in drafts_of(facts, Random(f"{seed} {facts.image}"))]
    drafts = balanced(drafts, random)
    drafts += list(YesNoQuestions(list(pictures.values()), seed).drafts())
    questions = with_options(drafts, pictures, random)
    absent = absent_questions(questions, pictures, random)
    questions += make_unanswerable(list(pictures), absent, len(questions) // ANSWERABLE_PER_UNANSWERABLE, random)
    asked: dict[tuple[str, str], Question] = {}
    for question in questions:
        asked.setdefault((question.image, question.question), question)
    questions = list(asked.values())
    random.shuffle(questions)
    return questions


def write_caption_questions(data: Path, folder: Path) -> dict[str, list[Question]]:
    """Writes questions on both splits of a captioned folder, whose pictures are linked, not copied."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "images"
    if not link.exists():
        link.symlink_to((data / "images").resolve(), target_is_directory=True)
    written = {}
    for split in ("train", "dev"):
        written[split] = questions_from_captions(read_captions(data, [split]), split)
        write_questions(folder / f"questions_{split}.jsonl", written[split])
    return written
