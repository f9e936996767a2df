"""Get the text out of a PDF."""

from io import BytesIO

from pypdf import PasswordType, PdfReader

from .unreadable import UnreadableDocument


def text_of_pdf(data: bytes, *, enough: int) -> str:
    """Return the text of the pages, an empty line between two, stopping once there are `enough` characters.

    Raises:
        UnreadableDocument: the file is broken or needs a password.
    """
    pages: list[str] = []
    try:
        reader = PdfReader(BytesIO(data))
        # Files that only forbid printing or copying open with the empty password.
        if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
            raise UnreadableDocument("it is encrypted")
        for page in reader.pages:
            pages.append(page.extract_text())
            if sum(map(len, pages)) >= enough:
                break
    except UnreadableDocument:
        raise
    except Exception as error:  # a broken file can make pypdf raise anything
        raise UnreadableDocument(f"it is no valid PDF ({type(error).__name__}: {error})") from error
    return "\n\n".join(pages)
