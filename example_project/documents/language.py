"""Tell which language a text is in. The model comes with py3langid: no download, no network."""

from functools import lru_cache

from django.conf.locale import LANG_INFO
from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]
from pydantic import BaseModel

# More text than this does not change the answer.
ENOUGH_CHARACTERS = 4_000
UNSURE = 0.6


class Language(BaseModel):
    code: str
    """ISO 639-1, or `und` when the text is too short or too odd to tell."""
    name: str
    confidence: float


def detect(text: str) -> Language:
    """Return the most probable language, by the letters that follow each other; `confidence` goes from 0 to 1."""
    code, probability = _identifier().classify(text[:ENOUGH_CHARACTERS])
    confidence = round(float(probability), 3)
    if confidence < UNSURE:
        return Language(code="und", name="Unknown", confidence=confidence)
    return Language(code=code, name=_english_name(code), confidence=confidence)


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _english_name(code: str) -> str:
    return str(LANG_INFO.get(code, {}).get("name", code))
