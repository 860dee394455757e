"""Which questions cannot be answered from their image: decided here for readers, models and evaluation alike."""

from __future__ import annotations

UNANSWERABLE = 'unanswerable'  # the answer type of such questions in KVQA and Rooms, and KVQA's answer to them
NO_ANSWER = '답할 수 없음'  # their answer in Rooms, and in KVQA with its answer map
ENGLISH_ANSWERS = UNANSWERABLE, 'unsuitable'  # what people wrote into KVQA of an image that shows too little


def is_no_answer(answer: str) -> bool:
    """Whether an answer says that the question cannot be answered."""
    return answer.strip().casefold() in (NO_ANSWER, *ENGLISH_ANSWERS)


def is_unanswerable(answer_type: str, answer: str) -> bool:
    """Whether a question cannot be answered: its type says so, or its answer; of several, that of most people.

    KVQA's mark `answerable` is not read: in part of its rows it contradicts the type and the answers.
    """
    return answer_type.casefold() == UNANSWERABLE or is_no_answer(answer)
