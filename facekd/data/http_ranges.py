"""Byte ranges of files on web servers, with the standard library alone; for facekd.data.storage."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPMessage

TIMEOUT_S = 60.0


class HttpRanges:
    """What of fsspec's file systems is used, for http:// and https://. A path is the whole URL."""

    def info(self, url: str) -> Mapping[str, object]:
        """Size, ETag and time of change.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the server does not answer, or not in byte ranges.
        """
        headers, _ = self._get(url, 0, 1)
        size = headers.get("Content-Range", "").rpartition("/")[2]
        return {
            "size": int(size) if size.isdecimal() else None,
            "ETag": headers.get("ETag"),
            "LastModified": headers.get("Last-Modified"),
        }

    def cat_file(self, url: str, start: int, end: int) -> bytes:
        """Bytes start to end. Raises OSError."""
        return self._get(url, start, end)[1]

    def _get(self, url: str, start: int, end: int) -> tuple[HTTPMessage, bytes]:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-{end - 1}"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                if answer.status != 206:
                    raise OSError("the server does not answer byte ranges: download the file")
                return answer.headers, answer.read(end - start)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 410):
                    raise FileNotFoundError(url) from None
                raise OSError(f"the server answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise OSError(f"the server does not answer ({error.reason})") from None
