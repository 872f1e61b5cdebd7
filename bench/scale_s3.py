"""Runs the tests' S3 server as a process: `python -m bench.scale_s3 PORT`."""

import sys

from aiohttp import web

from tests.common.s3_server import S3Server

if __name__ == "__main__":
    web.run_app(S3Server().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
