"""Tiny PDFs, written by hand: one page with one line of text."""

from io import BytesIO

from pypdf import PdfReader, PdfWriter


def pdf_with(*pages: str, letter_a: str = "0041") -> bytes:
    """Return a valid PDF with a page for each line of ASCII text; `letter_a` is what its font calls an A, in UTF-16."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode {4 + 2 * len(pages)} 0 R >>",
    ]
    for index, line in enumerate(pages):
        drawing = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET" if line else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * index} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            _stream(drawing),
        ]
    objects.append(_stream(f"begincmap\n1 beginbfchar\n<41> <{letter_a}>\nendbfchar\nendcmap"))
    return _with_offsets(objects)


def _stream(content: str) -> str:
    return f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"


def _with_offsets(objects: list[str]) -> bytes:
    body = "%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(f"{len(body):010} 00000 n \n")
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{''.join(offsets)}"
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + table + trailer).encode("ascii")


def encrypted(pdf: bytes, *, user_password: str) -> bytes:
    """Return the same PDF, encrypted; the owner's password is another one."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf)))
    writer.encrypt(user_password, owner_password="the owner's", algorithm="RC4-128")
    target = BytesIO()
    writer.write(target)
    return target.getvalue()
