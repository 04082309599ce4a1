"""Files of a form, as ``curl --form files=@1.png --form files=@2.png`` sends them, as a zip.

Both ways of sending several files are thus opened, bounded and refused alike.
"""

import io
import zipfile
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from homnet_serve.errors import invalid, too_large

FORM_TYPE: Final = "multipart/form-data"


def zip_of_form(body: bytes, content_type: str, max_files: int) -> bytes:
    """A zip with the files of a form.

    Args:
        body: the form.
        content_type: its media type with the boundary.
        max_files: maximum number of files, including those that nobody chose.

    Raises:
        RequestError: the body is not a form or is cut off, it has too many files, or a field that
            is no file.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise invalid("Content-Type: the form has no boundary; let the client write this header")
    content, ended, num_parts = io.BytesIO(), [], 0
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:

        def on_field(field: Field) -> None:
            name = (field.field_name or b"").decode("utf-8", "replace")
            raise invalid(
                f"body: {name[:100]!r} is a field, not a file; give it as a parameter (?name=value)"
            )

        def on_file(file: File) -> None:
            nonlocal num_parts
            num_parts += 1
            if num_parts > max_files:
                raise too_large(f"body: more than {max_files} files; send fewer images")
            try:
                name = (file.file_name or b"").decode()
            except UnicodeDecodeError:
                # Letters replaced by a mark would make one patient of two.
                raise invalid(
                    "body: the name of a file is not UTF-8; send it so, or send a zip"
                ) from None
            if not name and not file.size:  # a browser sends so what nobody chose
                return
            if not name or "\0" in name:
                raise invalid("body: a file of the form has no usable name; give it one")
            if name in archive.namelist():
                raise invalid("body: the form has two files of one name; give each file its own")
            file.file_object.seek(0)
            archive.writestr(name, file.file_object.read())
            file.close()

        # What people send is never written to a disk.
        config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
        try:
            parser = FormParser(
                FORM_TYPE, on_field, on_file, lambda: ended.append(True), boundary, config=config
            )
            parser.write(body)
            parser.finalize()
        except FormParserError as error:
            raise invalid(f"body: not a readable form ({str(error)[:100]})") from None
    if not ended:
        raise invalid("body: the form is cut off; send it whole")
    return content.getvalue()
