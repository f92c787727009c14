"""Snapshots in a bucket of S3, or of any server that speaks its protocol.

Who to be and which server to ask is found where all tools of S3 look: the environment (`AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, `AWS_PROFILE`, …), the files in `~/.aws`, the machine's role; or in the
configuration of fsspec (`FSSPEC_S3_ENDPOINT_URL`, …).

What the protocol's promises rest on:

- An object is there when the request that makes it, or that completes its parts, has been answered; not before.
- A name is made once by `If-None-Match: *`. The answer to a request that succeeded may be lost, and the second attempt
  is then refused because of the first: so each object carries a mark of who made it, and a refused writer looks
  whether it was itself.
- Large files go up in parts, each of which is tried again by itself; no more than a few are in memory.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import fsspec
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from streamcore.checkpoint.retry import Backoff
from streamcore.checkpoint.storage import Buffer, Storage

T = TypeVar("T")

_PART_BYTES = 16 << 20
_MOST_PARTS = 9_000
"""The protocol allows 10,000."""
_PARTS_AT_ONCE = 4
_NAMES_AT_ONCE = 1000
_MARK = "streamcore-writer"

_MOMENTARY = {
    "ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "TooManyRequestsException", "500", "502", "503", "504",
}  # fmt: skip
_REFUSED_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "InvalidClientTokenId",
}


class S3Error(OSError):
    """A request that failed; `code` is S3's, or the name of what went wrong before there was an answer."""

    def __init__(self, number: int, text: str, code: str, *, transient: bool) -> None:
        super().__init__(number, text)
        self.code = code
        self.transient = transient


class S3Storage(Storage):
    """A prefix in a bucket.

    Args:
        url: `s3://BUCKET/PREFIX`.
        backoff: for requests that failed for a reason that may pass.
    """

    def __init__(self, url: str, backoff: Backoff | None = None) -> None:
        # one attempt a call: what is tried again, and when, is decided and told here
        quick = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60}
        self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, config_kwargs=quick)
        self._fs.retries = 1
        self._bucket, _, prefix = root.strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._backoff = backoff or Backoff()
        super().__init__(url, f"s3:{self._fs.endpoint_url or ''}:{self._bucket}/{prefix}")

    def write(self, path: str, data: bytes) -> None:
        self.write_parts(path, [data])

    def write_parts(self, path: str, parts: Sequence[Buffer]) -> None:
        size = sum(map(len, parts))
        if size <= 2 * _PART_BYTES:
            self._call("put_object", path, Body=b"".join(parts))
            return
        mark = secrets.token_hex(16)
        upload = self._call("create_multipart_upload", path, Metadata={_MARK: mark})["UploadId"]
        try:
            done = self._upload_parts(path, upload, parts, max(_PART_BYTES, -(-size // _MOST_PARTS)))
            self._complete_upload(path, upload, done, mark)
        except BaseException:
            self._forget_upload(path, upload)
            raise

    def create(self, path: str, data: bytes) -> bool:
        mark = secrets.token_hex(16)
        try:
            self._call("put_object", path, Body=data, IfNoneMatch="*", Metadata={_MARK: mark})
        except S3Error as error:
            if error.code not in ("PreconditionFailed", "412"):
                raise
            return self._mark_of(path) == mark
        return True

    def read(self, path: str) -> bytes:
        def get() -> bytes:
            return cast(bytes, self._fs.cat_file(f"{self._bucket}/{self._key(path)}"))

        return self._tried(f"reading {self.url}/{path}", get)

    def names(self, directory: str) -> list[str]:
        prefix = self._key(f"{directory}/" if directory else "")
        found: set[str] = set()
        for page in self._pages(prefix, Delimiter="/"):
            found.update(entry["Key"][len(prefix) :] for entry in page.get("Contents", ()))
            found.update(entry["Prefix"][len(prefix) :].rstrip("/") for entry in page.get("CommonPrefixes", ()))
        return sorted(found - {""})

    def delete(self, path: str) -> None:
        self._call("delete_object", path)
        keys = [entry["Key"] for page in self._pages(self._key(f"{path}/")) for entry in page.get("Contents", ())]
        for start in range(0, len(keys), _NAMES_AT_ONCE):
            objects = [{"Key": key} for key in keys[start : start + _NAMES_AT_ONCE]]
            failed = self._call("delete_objects", None, Delete={"Objects": objects, "Quiet": True}).get("Errors", ())
            for error in failed:
                raise S3Error(
                    errno.EIO, f"{error['Key']} can't be deleted: {error['Code']}", error["Code"], transient=False
                )

    def clean_up(self) -> None:
        """Also gives up uploads in parts that were never completed: nobody sees them, but they take room."""
        for upload in self._call("list_multipart_uploads", None, Prefix=self._prefix).get("Uploads") or ():
            self._forget_upload(upload["Key"][len(self._prefix) :], upload["UploadId"])
        super().clean_up()

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _mark_of(self, path: str) -> str | None:
        found: dict[str, str] = self._call("head_object", path)["Metadata"]
        return found.get(_MARK)

    def _upload_parts(self, path: str, upload: str, parts: Sequence[Buffer], size: int) -> list[dict[str, Any]]:
        def send(number: int, pieces: list[Buffer]) -> dict[str, Any]:
            body = b"".join(pieces)
            answer = self._call("upload_part", path, UploadId=upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="streamcore-upload") as threads:
            sent = [threads.submit(send, number, part) for number, part in enumerate(_cut(parts, size), 1)]
            try:
                return [part.result() for part in sent]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _complete_upload(self, path: str, upload: str, done: list[dict[str, Any]], mark: str) -> None:
        try:
            self._call("complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": done})
        except FileNotFoundError:
            if self._mark_of(path) != mark:  # else it is complete, and the answer that said so was lost
                raise

    def _forget_upload(self, path: str, upload: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was completed, or given up, by another attempt
            self._call("abort_multipart_upload", path, UploadId=upload)

    def _pages(self, prefix: str, **options: Any) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", None, Prefix=prefix, MaxKeys=_NAMES_AT_ONCE, **options, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _call(self, method: str, path: str | None, **options: Any) -> Any:
        """A request, tried again while that may help; `path` None: one about the bucket.

        Raises:
            FileNotFoundError: the object isn't there.
            S3Error: anything else.
        """
        if path is not None:
            options["Key"] = self._key(path)
        what = f"{method} of {self.url}{'' if path is None else f'/{path}'}"
        return self._tried(what, lambda: self._fs.call_s3(method, Bucket=self._bucket, **options))

    def _tried(self, what: str, work: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return work()
            except Exception as error:
                raise self._explained(error) from error

        return self._backoff.run(what, once, lambda error: isinstance(error, S3Error) and error.transient)

    def _explained(self, error: Exception) -> Exception:
        """The error as an OSError whose text says what to do; whatever is no answer and no failure to get one stays."""
        cause = error if isinstance(error, ClientError) else error.__cause__
        if isinstance(cause, ClientError):
            return self._explained_answer(cause)
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            text = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            return S3Error(errno.EACCES, text, "NoCredentials", transient=False)
        if isinstance(error, BotoCoreError | TimeoutError | ConnectionError):
            host = urlsplit(getattr(error, "kwargs", {}).get("endpoint_url", ""))  # the whole URL would be long
            text = f"no answer from {host.scheme}://{host.netloc}" if host.netloc else f"no answer: {error}"
            return S3Error(errno.EHOSTUNREACH, text, type(error).__name__, transient=True)
        return error

    def _explained_answer(self, cause: ClientError) -> Exception:
        code, text = cause.response["Error"].get("Code", ""), cause.response["Error"].get("Message", "")
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return S3Error(errno.ENXIO, f"there is no bucket {self._bucket!r}", code, transient=False)
        if code in ("NoSuchKey", "NoSuchUpload", "404"):
            return FileNotFoundError(errno.ENOENT, text or "no such object")
        if code in _REFUSED_CREDENTIALS:
            text = f"the credentials are refused ({code}: {text}); see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return S3Error(errno.EACCES, text, code, transient=False)
        number = errno.EACCES if status == 403 else errno.EIO
        return S3Error(number, f"{code}: {text}", code, transient=code in _MOMENTARY or status >= 500)


def _cut(pieces: Sequence[Buffer], size: int) -> Iterator[list[Buffer]]:
    """The pieces as parts of `size` bytes, the last of what is left; nothing is copied."""
    part: list[Buffer] = []
    room = size
    for piece in pieces:
        view, start = memoryview(piece), 0
        while start < len(view):
            taken = view[start : start + room]
            part.append(taken)
            start, room = start + len(taken), room - len(taken)
            if room == 0:
                yield part
                part, room = [], size
    if part:
        yield part
