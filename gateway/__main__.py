"""`python -m gateway`: HTTP and WebSockets in front of the services."""

from gateway.app import serve
from gateway.config import GatewaySettings
from services.common.process import run

if __name__ == "__main__":
    run("gateway", "HTTP, WebSockets and pages in front of StemTube's services.", GatewaySettings, {"serve": serve})
