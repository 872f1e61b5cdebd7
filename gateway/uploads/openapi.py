"""The description of resumable uploads in the OpenAPI document."""

from typing import Any

from gateway.uploads import tus

_ERROR = {"$ref": "#/components/responses/Error"}
_DIGITS = {"type": "string", "pattern": r"^\d{1,15}$"}
_VERSION = {
    "name": "Tus-Resumable",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "const": tus.VERSION},
}
_ID = {"name": "upload_id", "in": "path", "required": True, "schema": {"type": "string"}}
_OFFSET = {
    "name": "Upload-Offset",
    "in": "header",
    "required": True,
    "description": "Position of the first byte.",
    "schema": _DIGITS,
}
_LENGTH = {
    "name": "Upload-Length",
    "in": "header",
    "required": True,
    "description": "The file's size in bytes.",
    "schema": _DIGITS,
}
_METADATA = {
    "name": "Upload-Metadata",
    "in": "header",
    "description": "Keys with values in Base64: filename, options.",
    "schema": {"type": "string"},
}
_BYTES: dict[str, Any] = {"content": {tus.BODY_TYPE: {}}}


def _operation(
    name: str, summary: str, status: str, answer: str, *parameters: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["DownloadService"],
        "summary": summary,
        "parameters": list(parameters),
        "responses": {status: {"description": answer}, "default": _ERROR},
        **more,
    }


OPENAPI: dict[str, Any] = {
    tus.PATH: {
        "options": _operation(
            "TellUploadCapabilities", "The supported versions and extensions of tus.", "204", "As headers.", security=[]
        ),
        "post": _operation(
            "CreateUpload",
            "Begins an upload that may take several connections (tus 1.0).",
            "201",
            "Created; Location is the upload's address.",
            _VERSION,
            _LENGTH,
            _METADATA,
            description=tus.__doc__,
            requestBody=_BYTES,
        ),
    },
    f"{tus.PATH}/{{upload_id}}": {
        "options": _operation(
            "TellUploadCapabilities2", "The supported versions and extensions of tus.", "204", "As headers.", _ID
        ),
        "patch": _operation(
            "AppendUpload",
            "Sends further bytes of an upload.",
            "204",
            "Upload-Offset is the new end; after the last byte there are also Stemtube-Track-Id and Stemtube-Job-Id.",
            _ID,
            _VERSION,
            _OFFSET,
            requestBody=_BYTES | {"required": True},
        ),
        "delete": _operation("DeleteUpload", "Ends an upload.", "204", "The upload has been removed.", _ID, _VERSION),
        "post": _operation(
            "OverrideUploadMethod",
            "Acts like the method in X-HTTP-Method-Override: PATCH, DELETE or HEAD.",
            "204",
            "The answer of that method.",
            _ID,
            _VERSION,
            requestBody=_BYTES,
        ),
    },
}
